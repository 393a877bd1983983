"""Each notebook as slides: none overflows 1280 by 720, and no picture gets too small to read."""

import html
import re
from pathlib import Path

import nbformat
import pytest

from labsupport.exploration.stepper import _LOOK
from labsupport.verdict import row
from tests.course.test_browser import CHROMIUM
from tools.slides import (
    HEIGHT,
    WIDTH,
    export,
    main,
    slides,
    with_answers_later,
    with_large_pictures,
)

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
LEAST = 0.77
"""The share of its own size that a picture keeps, at the least; drawn for two pixels in one of CSS."""
LEAST_LIVE = 0.75

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

# Stands in for reveal.js, which comes from the net: it shows one slide at a time, in this frame.
FRAME = f"""<style>
  body {{ margin: 0; }}
  .slides {{ height: {HEIGHT}px; position: relative; width: {WIDTH}px; }}
  .slides section {{ display: none; height: {HEIGHT}px; }}
</style></head>"""
# Stands in for JupyterLab, as far as the lab's extension asks it where there are slides.
EXTENSION = (
    (ROOT / "jupyter/labextensions/redis-patterns-lab/static/remoteEntry.js").read_text()
    + """;
window._JUPYTERLAB["redis-patterns-lab"].get().then(made => made().default.activate({
  serviceManager: { contents: {} }, shell: { widgets: () => [{ node: document.body }] },
}));
"""
)
MEASURE = """async live => {
  const sections = [...document.querySelectorAll(".slides section")];
  const measured = [];
  for (const slide of sections.filter(one => !one.querySelector("section"))) {
    const stack = slide.parentElement;
    stack.classList.add("stack");
    stack.style.display = slide.style.display = "block";
    slide.classList.add("present");
    for (let left = live ? 500 : 0; left && !slide.dataset.fit; left--) {
      await new Promise(requestAnimationFrame);
    }
    const boxes = [slide, ...slide.querySelectorAll(".jp-Cell, [class*=jp-OutputArea], pre")];
    measured.push({
      text: slide.innerText.trim().slice(0, 60),
      beyond: Math.max(...boxes.map(box => box.scrollHeight - box.clientHeight)),
      aside: Math.max(...boxes.map(box => box.scrollWidth - box.clientWidth)),
      pictures: [...slide.querySelectorAll("img")].map(
        one => [Math.min(one.offsetHeight / one.getAttribute("height"),
                         one.offsetWidth / one.getAttribute("width")), one.alt]),
      folded: slide.querySelectorAll(".lab-folded").length,
    });
    slide.classList.remove("present");
    stack.style.display = slide.style.display = "";
  }
  return measured;
}"""


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """A function from a page of slides to what each of them measures, live with the lab's extension."""
    if not CHROMIUM:
        pytest.skip("needs a Chromium on the PATH")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.route(re.compile("^http"), lambda route: route.abort())

        def measured(text, *, live=False):
            path = tmp_path_factory.mktemp("slides") / "page.html"
            path.write_text(text.replace("</head>", FRAME, 1))
            tab.goto(path.as_uri(), wait_until="domcontentloaded")
            tab.wait_for_function("[...document.images].every(one => one.complete)")
            if live:
                tab.evaluate(EXTENSION)
                tab.evaluate("document.body.append('')")  # it looks when something is new
            return tab.evaluate(MEASURE, live)

        yield measured
        browser.close()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_slide_fits(path, measure):
    """Nothing is cut off, and what gives way stays readable."""
    found = measure(slides(nbformat.read(path, as_version=4), title=path.stem))
    assert len(found) > 20
    for slide in found:
        assert slide["beyond"] <= 1, slide
        assert slide["aside"] <= 1, slide
        assert all(share >= LEAST for share, _ in slide["pictures"]), slide


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pictures_stay_large_where_cells_run(path, measure):
    """As `make present` shows them: code and picture on one slide, of which the code gives way."""
    found = measure(export(nbformat.read(path, as_version=4), title=path.stem), live=True)
    for slide in found:
        assert slide["beyond"] <= 1, slide
        assert all(share >= LEAST_LIVE for share, _ in slide["pictures"]), slide


def test_code_gives_way_to_its_picture_and_no_further(measure):
    """Where the picture has room, code stays whole; a picture too tall for a slide leaves two lines."""
    cells = []
    for lines, high in ((4, 450), (16, 450), (16, 2000)):
        look = {"image/png": {"width": 960, "height": high}}
        drawn = nbformat.v4.new_output("display_data", {"image/png": PIXEL}, metadata=look)
        cells.append(nbformat.v4.new_code_cell("\n".join(["x = 1"] * lines), outputs=[drawn]))
        cells[-1].metadata["slideshow"] = {"slide_type": "slide"}
    whole = export(nbformat.v4.new_notebook(cells=cells), title="three")
    found = measure(whole, live=True)
    assert [slide["folded"] for slide in found] == [0, 1, 1]
    assert [slide["pictures"][0][0] >= 0.79 for slide in found] == [True, True, False]
    assert [slide["folded"] for slide in measure(whole)] == [0, 0, 0]


def test_code_stays_whole_while_its_answer_is_hidden(measure):
    """What is not to be seen yet needs no room, so nothing gives way to it."""
    said = nbformat.v4.new_output("stream", text="one\n" * 20)
    cell = nbformat.v4.new_code_cell("x = 1\n" * 12, outputs=[said])
    cell.metadata["slideshow"] = {"slide_type": "slide"}
    page = export(nbformat.v4.new_notebook(cells=[cell]), title="hidden")
    (slide,) = measure(page.replace('"jp-OutputArea ', '"lab-hidden jp-OutputArea '), live=True)
    assert slide["folded"] == 0


def test_a_schedule_that_is_stepped_through_is_seen_once(measure):
    """On a slide, too, the picture that stands for the steps where there are none is hidden."""
    look = {"image/png": {"width": 960, "height": 300}}
    made = [
        nbformat.v4.new_output("display_data", data, metadata=metadata)
        for data, metadata in (
            ({"text/html": f'{_LOOK}<div class="lab-steps">1</div>'}, {}),
            ({"image/png": PIXEL}, look),
        )
    ]
    cell = nbformat.v4.new_code_cell("x = 1", outputs=made)
    cell.metadata["slideshow"] = {"slide_type": "slide"}
    (slide,) = measure(export(nbformat.v4.new_notebook(cells=[cell]), title="steps"), live=True)
    assert [share for share, _ in slide["pictures"]] == [0]


def test_what_does_not_fit_is_found(measure):
    """The test itself can fail: by a long text, by a wide one, by a picture with no room left."""
    cells = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook(
        cells=[cells[0]("many words " * 900), cells[1]("x = 1\n" * 40), cells[1]("x" * 300)],
    )
    for cell in notebook.cells:
        cell.metadata["slideshow"] = {"slide_type": "slide"}
    long, tall, wide = measure(slides(notebook, title="too much"))
    assert long["beyond"] > 1
    assert tall["beyond"] > 1
    assert wide["aside"] > 1


def test_writes_a_page_for_each_notebook(tmp_path, capsys):
    """`make slides`; the pages use the reveal.js that lies beside them."""
    (tmp_path / "reveal.js").mkdir()
    assert main([str(tmp_path)]) == 0
    names = [f"{path.stem}.html" for path in NOTEBOOKS]
    assert sorted(path.name for path in tmp_path.glob("*.html")) == names
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / name) for name in names]
    assert '"reveal.js/dist/reveal.js"' in (tmp_path / names[0]).read_text()


def test_asks_nothing_of_the_net():
    """No script, style or import of a page comes from another machine; links of the text may."""
    page = slides(nbformat.read(NOTEBOOKS[0], as_version=4), title="00")
    assert len(re.findall(r"<script[^>]* src=", page)) == 2
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(?:https?:)?//", page)
    assert "dist/theme/white.css" in page  # others fetch their fonts
    assert not re.findall(r"@import|import [^;\n]+ from|url\([\"']?https?:", page)


def test_pictures_are_described():
    """Each picture has its own alt text, word for word."""
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    alts = [
        one.metadata["image/png"]["alt"] for one in outputs if "image/png" in one.get("data", {})
    ]
    found = re.findall(r'<img[^>]* alt="([^"]*)"', slides(notebook, title="00"))
    assert [html.unescape(alt) for alt in found] == alts
    assert len(alts) > 5


def test_an_answer_comes_after_its_question():
    """What answers a question on the same slide waits for the next key; nothing else does."""
    cells = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    said = nbformat.v4.new_output("stream", text="one")
    made = [
        (cells[1]("before = 1", outputs=[said]), "slide", None),
        (cells[0]("**Predict** how many."), "slide", None),
        (cells[1]("x = 1"), "-", None),
        (cells[1]("print(x)", outputs=[said]), "-", "outputs"),
        (cells[0]("One."), "-", "cell"),
        (cells[0]("A new slide."), "subslide", None),
        (cells[1]("print(x)", outputs=[said]), "-", None),
    ]
    notebook = nbformat.v4.new_notebook(cells=[cell for cell, _, _ in made])
    for cell, kind, _ in made:
        cell.metadata["slideshow"] = {"slide_type": kind}
    marked = with_answers_later(notebook)
    assert [cell.metadata.get("answers") for cell in marked.cells] == [mark for *_, mark in made]
    page = slides(notebook, title="questions")
    assert re.findall(r'class="fragment jp-Cell-?(\w*)', page) == ["outputWrapper", ""]


def test_a_picture_stays_large(measure):
    """Below long code it gets a slide without it; a tall one has its verdict beside it, its text behind."""
    look = {"image/png": {"width": 960, "height": 450}}
    drawn = nbformat.v4.new_output("display_data", {"image/png": PIXEL}, metadata=look)
    html = row("holds", "holds", "No piece is sold twice") * 2
    said = nbformat.v4.new_output("display_data", {"text/html": html})
    cells = [
        nbformat.v4.new_code_cell(source, outputs=[drawn, said])
        for source in ("x = 1\n" * 16, "x = 1")
    ]
    for cell in cells:
        cell.metadata["slideshow"] = {"slide_type": "slide"}
    cells.append(nbformat.v4.new_markdown_cell("What it means. " * 20))
    notebook = nbformat.v4.new_notebook(cells=cells)
    found = with_large_pictures(notebook).cells
    assert [len(cell.get("outputs", [])) for cell in found] == [0, 2, 2, 0]
    kinds = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in found]
    assert kinds == ["slide", "subslide", "slide", None]
    page = slides(notebook, title="two")
    assert page.count("<img ") == page.count("jp-CodeMirrorEditor jp-Editor") == 2
    beside = re.compile('class="[^"]* celltag_beside')
    assert not beside.search(page)
    for cell in notebook.cells[:2]:
        cell.outputs[0].metadata["image/png"].height = 790
    tall = slides(notebook, title="two")
    assert len(beside.findall(tall)) == 2
    shown = measure(tall)
    assert [len(slide["pictures"]) for slide in shown] == [0, 1, 1, 0]
    assert all(share >= 0.79 for slide in shown for share, _ in slide["pictures"])
