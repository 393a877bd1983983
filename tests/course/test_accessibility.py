"""axe finds nothing in what is handed out to be read: the HTML export, the slides, the web site.

The notebook in JupyterLab, its panel and its stepper are looked at in test_browser.py.
"""

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter, SlidesExporter
from traitlets.config import Config

from tests.course.axe import violations
from tests.course.test_browser import CHROMIUM, PATIENCE
from tools.slides import slides

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
PAGES = ["index", "search", "docs/explorer", "notebooks/01_cache_aside", "notebooks/15_own_code"]
LABS = [ROOT / f"{page}.ipynb" for page in PAGES if "/0" in page or "/1" in page]

# nbconvert's own look, which no option of it changes: the grey of "In [1]:", the colours of code,
# and links that differ from the text around them by their colour only.
ELEMENTS_OF_NBCONVERT = [".jp-InputPrompt", ".jp-OutputPrompt", ".highlight"]
RULES_OF_NBCONVERT = ["link-in-text-block"]


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("needs a Chromium on the PATH")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page as wide as a phone that asks for nothing from another machine."""
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.asked = []
        page.on("request", lambda one: page.asked.append(one.url))
        yield page


@pytest.fixture(scope="module")
def site():
    """The address of the web site, as `make web` builds it, with its links checked.

    LAB_WEB=built takes it as it is.
    """
    if not all(map(importlib.util.find_spec, ("furo", "myst_nb", "sphinx"))):
        pytest.skip("needs the extra `web`, which `make web` installs")
    if os.environ.get("LAB_WEB") != "built":
        outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
        environment = {key: value for key, value in os.environ.items() if key not in outer}
        command = ["make", "-o", "setup", "web", f"VENV={sys.executable}"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=ROOT / ".lab" / "web")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_is_wrong_is_found(page):
    """The test itself can fail: by a picture without words, by grey on white, by what has no name."""
    page.set_content("<img src='x.png'><p style='color:#aaa'>pale</p><button></button>")
    found = {one.partition(":")[0] for one in violations(page)}
    assert {"image-alt", "color-contrast", "button-name", "html-has-lang"} <= found


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_html_export(path, page, tmp_path):
    """`jupyter nbconvert --to html`: what is ours in it."""
    # Without the scripts that it has from the net: they draw formulas and widgets, and there are none.
    text, _ = HTMLExporter().from_notebook_node(nbformat.read(path, as_version=4))
    (tmp_path / "page.html").write_text(re.sub(r"<script src=.*?</script>", "", text))
    page.goto((tmp_path / "page.html").as_uri())
    assert violations(page, exclude=ELEMENTS_OF_NBCONVERT, ignore=RULES_OF_NBCONVERT) == []


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_print_loses_no_line(path, page, tmp_path, monkeypatch):
    """File > Print, as JupyterLab is set up here: on paper as wide as A4 long lines go on below."""
    monkeypatch.chdir(ROOT)
    config = Config(json.loads((ROOT / "jupyter/jupyter_lab_config.json").read_text()))
    exporter = HTMLExporter(config=config)
    text, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
    (tmp_path / "page.html").write_text(re.sub(r"<script src=.*?</script>", "", text))
    page.set_viewport_size({"width": 718, "height": 1000})
    page.goto((tmp_path / "page.html").as_uri())
    wide = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
    assert page.locator("pre").evaluate_all(wide) > 0  # on the screen one can scroll
    page.emulate_media(media="print")
    assert page.locator("pre").evaluate_all(wide) == 0
    assert SlidesExporter(config=config).template_name == "reveal"  # not the page's


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_slides(path, page, tmp_path):
    """`make slides`; without reveal.js all slides are on the page at once."""
    text = slides(nbformat.read(path, as_version=4), title=path.stem)
    (tmp_path / "page.html").write_text(text)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto((tmp_path / "page.html").as_uri())
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_web_site(name, scheme, site, page):
    """`make web`, in both looks."""
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{site}/{name}.html")
    assert violations(page) == []


def test_every_page_fits_a_phone_and_stays_here(site, page):
    """None is wider than the screen, none asks another machine, and each picture is there, in words."""
    pages = [path.relative_to(ROOT / ".lab/web") for path in (ROOT / ".lab/web").rglob("*.html")]
    assert len(pages) > 20
    for name in pages:
        page.goto(f"{site}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        pictures = page.locator("article img").evaluate_all(
            "all => all.map(one => [one.alt, one.naturalWidth])"
        )
        assert all(len(alt) > 20 and width for alt, width in pictures), name
    assert {one for one in page.asked if not one.startswith(site)} == set()
    assert any(one.endswith("/docs/herd.webp") for one in page.asked)


def test_a_figure_opens_alone(site, page):
    """On a phone its letters are small beside the text."""
    page.goto(f"{site}/notebooks/01_cache_aside.html")
    page.locator(".cell_output img").first.click()
    page.wait_for_url("**/*.png")


def test_search_finds(site, page):
    """The index lies beside the pages."""
    page.goto(f"{site}/search.html?q=thundering")
    page.locator("#search-results a", has_text="Cache-aside").first.wait_for()
    assert {one for one in page.asked if not one.startswith(site)} == set()
