// What JupyterLab does not do by itself. It is written as JupyterLab loads it, so nothing has to be built.
//
// Alt text: JupyterLab leaves `alt` empty, although the output's metadata has it; a panel's chart has it beside it.
// Size: a chart fills its column up to 1,300 pixels, unless it or its verdict would then be out of the window.
// Tables: a cell that is only ✓, ✗ or ? looks as the badge of a claim that holds, is broken, or was not exercised.
// Lost: of a widget without its kernel JupyterLab says "Error displaying widget"; here it says what helps.
// Names: ipywidgets tells a screen reader neither what a slider sets nor what the buttons of a Play do.
// Arrow keys: inside a schedule's stepper, left and right are its buttons "back" and "on".
// Predictions: under a question is a place to write one, and what comes out below is hidden until then, or
// until it is clicked or run (even blurred, colours would tell the verdict); what the text says of it, up to
// the next question or heading, is blurred. What was written is kept beside the notebook and its progress, in
// predictions.json, and shown over what came out.
// Until it is there the browser keeps it: a page that is loaded again waits for nothing that is under way.
// Slides: where a picture would get small, its verdict stands where it leaves more room; then code above gives way.
// Saved: JupyterLab writes the kernel's version into a notebook that it opens, and then calls it unsaved.
(() => {
  const opened = new WeakSet();
  const settle = async panel => {
    if (opened.has(panel)) return;
    opened.add(panel);
    await panel.context.ready;
    await panel.sessionContext.ready;
    const kernel = panel.sessionContext.session?.kernel;
    await Promise.all([kernel?.info, kernel?.spec]);
    setTimeout(() => {
      if (!panel.content.model?.sharedModel.canUndo()) panel.context.model.dirty = false;
    });
  };

  const seen = new WeakSet(); // code cells
  const shown = new WeakSet(); // those that were run, or clicked

  let files; // JupyterLab's
  const FILE = "predictions.json"; // by the notebook's name and the cell's id
  const kept = async folder => {
    const { content } = await files.get(folder);
    if (!content.some(one => one.name === FILE)) return {}; // asked for, the server would log an error
    const saved = await files.get(`${folder}/${FILE}`, { type: "file", format: "text", content: true });
    try {
      return JSON.parse(saved.content);
    } catch { // damaged: anew
      return {};
    }
  };
  const split = path => [path.slice(0, Math.max(0, path.lastIndexOf("/"))), path.slice(path.lastIndexOf("/") + 1)];
  const keep = async (path, id, text) => {
    const [folder, notebook] = split(path);
    const all = await kept(folder);
    (all[notebook] ??= {})[id] = text;
    const content = JSON.stringify(all, null, 1);
    await files.save(`${folder}/${FILE}`, { type: "file", format: "text", content });
  };
  let saving = Promise.resolve(); // one at a time, or two questions would write over each other
  const unsaved = key => JSON.parse(localStorage.getItem(key) ?? "[]"); // the text, and whether it is finished

  const question = (panel, cell) => {
    const { path } = panel.context;
    const [folder, notebook] = split(path);
    const label = document.createElement("label");
    label.className = "lab-guess";
    label.innerHTML = "<span>Your prediction</span><input maxlength='200' autocomplete='off'>";
    const input = label.lastChild;
    const said = text => { input.value = label.dataset.said = text; };
    said("");
    const key = `redis-patterns-lab ${files.serverSettings.baseUrl}${path} ${cell.model.id}`;
    const typed = finished => localStorage.setItem(key, JSON.stringify([input.value, finished]));
    const save = () => {
      said(input.value.trim());
      typed(true);
      const text = input.value;
      const saved = () => unsaved(key)[0] === text && localStorage.removeItem(key);
      saving = saving.then(() => keep(path, cell.model.id, text)).then(saved).catch(() => {}); // a read-only folder
      describe(panel);
    };
    (panel.predictions ??= kept(folder).catch(() => ({}))).then(all => {
      if (input.value) return; // already being written
      said(all[notebook]?.[cell.model.id] ?? "");
      const [text, finished] = unsaved(key);
      input.value = text ?? input.value;
      finished ? save() : describe(panel);
    });
    input.addEventListener("input", () => typed(false));
    input.addEventListener("blur", event => { // from a dialog, or another window, one comes back
      const away = event.relatedTarget?.closest(".jp-Dialog") || !document.hasFocus();
      if (!away && input.value !== label.dataset.said) save();
    });
    for (const name of ["mousedown", "click", "dblclick"]) {
      label.addEventListener(name, event => event.stopPropagation());
    }
    cell.node.append(label);
    return label;
  };

  const veil = (panel, cell, hidden) => {
    let open = !hidden.length;
    cell.node.onclick = event => {
      if (!event.target.closest(".lab-veiled")) return;
      hidden.forEach(one => shown.add(one));
      predict(panel);
    };
    for (const part of cell.node.querySelector(".jp-RenderedMarkdown")?.children ?? []) {
      open ||= /^H[1-6]$/.test(part.tagName) || /\bpredict/i.test(part.querySelector("strong")?.textContent);
      part.classList.toggle("lab-veiled", !open);
    }
  };

  const predict = panel => {
    let asked = null;
    let hidden = []; // what was asked for above, and is not to be seen yet
    let answered = false;
    for (const cell of panel.content?.widgets ?? []) {
      if (cell.model.type === "markdown") {
        const asks = /\*\*predict/i.test(cell.model.sharedModel.source);
        const there = cell.node.querySelector(".lab-guess");
        if (!asks) there?.remove();
        veil(panel, cell, hidden);
        hidden = [];
        answered = false;
        asked = asks ? there ?? question(panel, cell) : null;
      } else if (cell.model.type === "code" && cell.outputArea) {
        const node = cell.outputArea.node;
        const show = () => { shown.add(cell); predict(panel); slides(); };
        if (!seen.has(cell)) {
          seen.add(cell);
          node.addEventListener("click", show, true);
          cell.model.stateChanged.connect((_, change) => change.name === "executionCount" && show());
        }
        const speaks = cell.model.outputs.length > 0;
        const hides = Boolean(speaks && asked && !asked.dataset.said && !shown.has(cell));
        node.classList.toggle("lab-hidden", hides);
        if (hides) hidden.push(cell);
        node.dataset.guess = !answered && speaks && asked?.dataset.said || "";
        answered ||= speaks;
        asked?.classList.toggle("lab-over", answered && !hidden.length); // where there is little room
      }
    }
  };

  const name = node => {
    for (const handle of node.querySelectorAll(".noUi-handle:not([aria-label])")) {
      const label = handle.closest(".jupyter-widgets")?.querySelector(".widget-label")?.textContent;
      handle.setAttribute("aria-label", label || "step");
    }
    node.querySelectorAll(".widget-play button:not([aria-label])").forEach((button, at) => {
      button.setAttribute("aria-label", ["play or pause", "stop", "repeat"][at]);
    });
  };

  const LEAST = 0.8; // of its own size, a picture on a slide
  const LINES = 50; // pixels of code that stay at the least
  const own = (picture, name) => Number(picture.getAttribute(name));

  const fit = slide => {
    const pictures = [...slide.querySelectorAll(".jp-RenderedImage img[width][height]")]
      .filter(one => one.offsetHeight && !one.closest(".lab-hidden"));
    const parts = [slide, ...slide.querySelectorAll(".jp-OutputArea-child, .lab-hidden")];
    const found = [slide.clientWidth, slide.clientHeight, parts.length, ...pictures.map(one => own(one, "height"))].join();
    if (!slide.clientHeight || slide.dataset.fit === found) return; // as in a live chart's next frame
    slide.dataset.fit = found;
    const code = [...slide.querySelectorAll(".jp-CodeCell > .jp-Cell-inputWrapper")].filter(one => one.offsetHeight);
    code.forEach(one => one.classList.remove("lab-folded"));
    const boxes = [slide, ...slide.querySelectorAll(".jp-Cell, [class*=jp-OutputArea]")]
      .filter(one => !one.closest(".lab-hidden"));
    const lacks = () => Math.max(...boxes.map(one => one.scrollHeight - one.clientHeight), pictures.reduce((sum, one) =>
      sum + Math.max(0, LEAST * own(one, "height") - one.offsetHeight, LEAST * own(one, "width") - one.offsetWidth), 0));
    const place = (on, off) => pictures.forEach(one => {
      one.closest(".jp-Cell").classList.replace(off, on) || one.closest(".jp-Cell").classList.add(on);
    });
    place("celltag_beside", "celltag_below");
    const beside = lacks();
    place("celltag_below", "celltag_beside");
    if (beside < lacks()) place("celltag_beside", "celltag_below");
    let short = Math.ceil(lacks());
    for (const one of code.sort((a, b) => b.offsetHeight - a.offsetHeight)) {
      const high = one.offsetHeight;
      const gives = Math.min(short, high - LINES);
      if (gives <= 4) continue;
      one.style.setProperty("--lab-fold", `${high - gives}px`);
      one.classList.add("lab-folded");
      short -= gives;
    }
  };
  const sized = new WeakSet();
  const sizes = new ResizeObserver(entries => entries.forEach(one => fit(one.target))); // before it is painted
  const slides = () => {
    for (const slide of document.querySelectorAll(".reveal section:not(:has(section))")) {
      if (!sized.has(slide)) sizes.observe(slide);
      sized.add(slide);
      fit(slide);
    }
  };

  const LOST = "Run this cell again: its buttons ended with their kernel.";
  const NOTE = "A panel with sliders, Run and Stop stands here while the notebook has a kernel.";
  const lost = node => {
    for (const output of node.querySelectorAll(".jp-OutputArea-output.jupyter-widgets")) {
      if (output.childElementCount || !output.textContent.startsWith("Error displaying widget")) continue;
      output.textContent = LOST;
      output.classList.add("lab-lost");
      const next = output.closest(".jp-OutputArea-child")?.nextElementSibling;
      if (next?.textContent.trim() === NOTE) next.classList.add("lab-said");
    }
  };

  const judge = node => {
    for (const cell of node.querySelectorAll(".jp-RenderedHTML .dataframe td:not([class])")) {
      const status = { "✓": "lab-holds", "✗": "lab-broken", "?": "lab-unknown" }[cell.textContent];
      if (status) cell.className = status;
    }
  };

  const describe = panel => {
    name(panel.node);
    judge(panel.node);
    lost(panel.node);
    for (const picture of panel.node.querySelectorAll(".lab-panel .widget-image")) {
      const alt = picture.nextElementSibling?.textContent;
      if (alt && picture.alt !== alt) picture.alt = alt;
    }
    for (const cell of panel.content?.widgets ?? []) {
      const area = cell.outputArea;
      area?.widgets?.forEach((output, at) => {
        const alt = area.model.get(at)?.metadata?.["image/png"]?.alt;
        const picture = output.node.querySelector(".jp-RenderedImage img");
        if (alt && picture && picture.alt !== alt) picture.alt = alt;
      });
    }
    if (panel.content?.widgets?.[0]?.model?.sharedModel) {
      predict(panel);
      settle(panel);
    }
    slides();
  };

  const LOOK = `
    .lab-guess { display: flex; align-items: center; gap: 0.8em; padding: 0.4em 0 0.8em;
      margin-left: calc(var(--jp-cell-prompt-width) + 2 * var(--jp-code-padding) + 5px);
      color: var(--jp-content-font-color1); font: var(--jp-content-font-size1) var(--jp-content-font-family); }
    .lab-guess span { flex: none; }
    .lab-guess input { flex: 0 1 36em; padding: 0.35em 0.6em; font: inherit; color: inherit;
      background: var(--jp-layout-color1); border: 1px solid var(--jp-border-color0); border-radius: 4px; }
    .lab-guess input:focus { outline: 2px solid var(--jp-brand-color1); outline-offset: 0; }
    .lab-hidden { position: relative; cursor: pointer; min-height: 2.4em; max-height: 12em; overflow: hidden;
      background: var(--jp-layout-color2); border-radius: 4px; }
    .lab-hidden > * { visibility: hidden; }
    .lab-hidden::after { content: "Write your prediction above, or click to see"; position: absolute;
      inset: 0; display: grid; place-items: center; font: bold var(--jp-content-font-size1)
      var(--jp-content-font-family); color: var(--jp-content-font-color0); }
    .jp-OutputArea[data-guess]:not([data-guess=""])::before { content: "You predicted: " attr(data-guess);
      display: block; padding: 0.4em var(--jp-code-padding); overflow-wrap: anywhere;
      margin-left: var(--jp-cell-prompt-width); color: var(--jp-content-font-color1);
      font: italic var(--jp-content-font-size1) var(--jp-content-font-family); }
    .lab-veiled { cursor: pointer; filter: blur(8px) opacity(0.7); user-select: none; }
    .jp-OutputArea-output.lab-lost { padding: var(--jp-code-padding); font-style: italic; height: auto;
      color: var(--jp-content-font-color1); font-size: var(--jp-content-font-size1); }
    .lab-said { display: none; }
    .jp-RenderedHTMLCommon td:is(.lab-holds, .lab-broken, .lab-unknown) { font-weight: 600; text-align: center;
      box-shadow: inset 0 0 0 1px var(--jp-layout-color1); }
    .jp-RenderedHTMLCommon td.lab-holds { background: #00402e; color: #ffffff; }
    .jp-RenderedHTMLCommon td.lab-broken { background: #d55e00; color: #111111; }
    .jp-RenderedHTMLCommon td.lab-unknown { background: #e0e0e0; color: #111111; }
    .jp-RenderedText pre { word-break: normal; overflow-wrap: anywhere; }
    .jp-RenderedImage img[width][height]:not(.reveal *, .rise-enabled *) {
      width: min(100%, 1300px); height: auto; max-height: max(480px, 100vh - 130px);
      object-fit: contain; object-position: left top; }
    .jp-OutputArea:has(.jp-RenderedHTML > div > span:first-child) .jp-RenderedImage
      img[width][height]:not(.reveal *, .rise-enabled *) { max-height: max(480px, 100vh - 260px); }
    .jp-OutputArea:has(.jp-RenderedHTML > div:nth-of-type(3) > span:first-child) .jp-RenderedImage
      img[width][height]:not(.reveal *, .rise-enabled *) { max-height: max(480px, 100vh - 310px); }
    .jp-OutputArea .jp-RenderedHTML:has(> div:nth-of-type(4) > span:first-child):not(.reveal *, .rise-enabled *) {
      display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26em, 100%), 1fr)); column-gap: 2em; }
    @media print { .lab-guess { display: none; } }
  `;

  const told = event => { // to JupyterLab, Enter is a key of the notebook
    if (event.key !== "Enter" || !event.target.closest?.(".lab-guess")) return;
    event.preventDefault();
    event.stopPropagation();
    event.target.blur();
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
      files = app.serviceManager.contents;
      const sheet = document.createElement("style");
      sheet.textContent = LOOK;
      document.head.append(sheet);
      let due = 0;
      const look = () => {
        due ||= setTimeout(() => { due = 0; [...app.shell.widgets("main")].forEach(describe); }, 200);
      };
      new MutationObserver(look).observe(document.body, {
        attributeFilter: ["src"], attributes: true, childList: true, subtree: true,
      });
      document.addEventListener("keydown", step, true);
      document.addEventListener("keydown", told, true);
    },
  };

  (window._JUPYTERLAB ??= {})["redis-patterns-lab"] = {
    init: () => {},
    get: () => Promise.resolve(() => ({ __esModule: true, default: plugin })),
  };
})();
