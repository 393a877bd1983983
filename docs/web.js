// What scrolls sideways can be reached and moved with the keyboard.
const mark = () => {
  for (const box of document.querySelectorAll("article :is(pre, .table-wrapper, .output)")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("load", mark);
addEventListener("resize", mark);
