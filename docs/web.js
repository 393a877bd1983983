// What scrolls sideways can be reached and moved with the keyboard.
const mark = () => {
  for (const box of document.querySelectorAll("article :is(pre, .table-wrapper, .output)")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("load", mark);
addEventListener("resize", mark);

// A cell that is only a sign looks as the badge of a claim that holds, is broken, or was not exercised.
const judge = () => {
  for (const cell of document.querySelectorAll("table.dataframe td")) {
    const status = { "✓": "lab-holds", "✗": "lab-broken", "?": "lab-unknown" }[cell.textContent];
    if (status) cell.classList.add(status);
  }
};
addEventListener("load", judge);

// A figure opens alone, at its own size: on a phone its letters are small.
const enlarge = () => {
  for (const picture of document.querySelectorAll(".cell_output img")) {
    const link = document.createElement("a");
    link.href = picture.src;
    picture.replaceWith(link);
    link.append(picture);
  }
};
addEventListener("load", enlarge);
