// What JupyterLab does not do by itself. It is written as JupyterLab loads it, so nothing has to be built.
//
// Alt text: JupyterLab leaves `alt` empty, although the output's metadata has it.
// Arrow keys: inside a schedule's stepper, left and right are its buttons "back" and "on".
(() => {
  const describe = app => {
    for (const panel of app.shell.widgets("main")) {
      for (const cell of panel.content?.widgets ?? []) {
        const area = cell.outputArea;
        area?.widgets?.forEach((output, at) => {
          const alt = area.model.get(at)?.metadata?.["image/png"]?.alt;
          const picture = output.node.querySelector(".jp-RenderedImage img");
          if (alt && picture && picture.alt !== alt) picture.alt = alt;
        });
      }
    }
  };

  const step = event => {
    const name = { ArrowLeft: "back", ArrowRight: "on" }[event.key];
    const stepper = event.target.closest?.(".lab-steps");
    if (!name || !stepper || event.target.closest(".noUi-handle, input")) return;
    event.preventDefault();
    event.stopPropagation();
    stepper.querySelector(`.lab-steps-${name}`).click();
  };

  const plugin = {
    id: "redis-patterns-lab:plugin",
    autoStart: true,
    activate: app => {
      let due = 0;
      const look = () => {
        due ||= setTimeout(() => { due = 0; describe(app); }, 200);
      };
      new MutationObserver(look).observe(document.body, {
        attributeFilter: ["src"], attributes: true, childList: true, subtree: true,
      });
      document.addEventListener("keydown", step, true);
    },
  };

  (window._JUPYTERLAB ??= {})["redis-patterns-lab"] = {
    init: () => {},
    get: () => Promise.resolve(() => ({ __esModule: true, default: plugin })),
  };
})();
