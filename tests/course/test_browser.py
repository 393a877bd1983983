"""A reader's first minutes: JupyterLab as `make lab` starts it, a real Chromium, lab 01 run through."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pandas as pd
import psutil
import pytest

from labsupport.charts import Size
from labsupport.doctor import CHROMIUMS
from labsupport.exploration.stepper import _INCHES
from labsupport.verdict import _LOOK
from tests.course.axe import violations

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / ".lab" / "screenshots"
CHROMIUM = next(filter(None, map(shutil.which, CHROMIUMS)), None)
NOTEBOOK = next((ROOT / "notebooks").glob("01_*.ipynb"), None)
PATIENCE = 480
"""Seconds after which something hangs; nothing is measured by it."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (.ci/run installs it)"),
    pytest.mark.skipif(NOTEBOOK is None, reason="lab 01 is not there"),
    pytest.mark.skipif(shutil.which("make") is None, reason="no make"),
]

# Every Python of the lab (the server, its kernels, their workers) tells whom it asks for, and that
# it tells: addresses that it connects to, names that it looks up. Sockets in the file system do not count.
LISTENER = """
import os, sys

def tell(what):
    with open(os.environ["LAB_CONNECTIONS"], "a") as file:
        file.write(f"{what}\\n")

def listen(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        tell(arguments[1][0])
    elif event == "socket.getaddrinfo":
        tell(arguments[0])

tell("listening")
sys.addaudithook(listen)
"""
HERE = {"127.0.0.1", "::1", "localhost", "None"}
# Every picture that is on the page at the moment when the browser paints.
WATCH = """() => {
    window.painted = new Set();
    const look = () => {
        for (const one of document.querySelectorAll('.jp-OutputArea-output img')) {
            window.painted.add(one.src);
        }
        requestAnimationFrame(look);
    };
    look();
}"""


class Lab:
    """JupyterLab, started in a copy of the project so that the reader's notebooks stay as they are."""

    def __init__(self, directory):
        self.directory = directory / "a copy"  # a space in the path: `make` must bear it
        cache = shutil.ignore_patterns("__pycache__")  # other tests may be writing there
        for name in ("jupyter", "notebooks", "tools"):
            shutil.copytree(ROOT / name, self.directory / name, ignore=cache)
        shutil.copy(ROOT / "Makefile", self.directory)
        (directory / "sitecustomize.py").write_text(LISTENER)
        settings = directory / "config/lab/user-settings/@jupyterlab/notebook-extension"
        settings.mkdir(parents=True)
        # Otherwise cells out of sight are not on the page, and cannot be pointed at.
        (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
        self.connections = directory / "connections"
        self.connections.touch()
        outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # those of the `make test` that runs this
        environment = {key: value for key, value in os.environ.items() if key not in outer} | {
            "JUPYTER_CONFIG_DIR": str(directory / "config"),
            "JUPYTER_DATA_DIR": str(directory / "data"),
            "LAB_CONNECTIONS": str(self.connections),
            "PYTHONPATH": str(directory),
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = ["make", "-o", "setup", "lab", f"VENV={sys.executable}", f"PORT={self.port}"]
        self.log = directory / "jupyterlab.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "BROWSER=no"],
                cwd=self.directory,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = ""
        try:
            _wait(self._tells_address, "the address of JupyterLab")
        except BaseException:
            self.stop()
            raise

    def _tells_address(self):
        said = self.log.read_text()
        assert self.process.poll() is None, f"JupyterLab did not start:\n{said}"
        found = re.search(r"http://127\.0\.0\.1:\d+/lab\S*\?token=\w{20,}", said)
        self.url = found.group() if found else ""
        return self.url

    def address(self, path):
        """The page of a notebook, with the token, and without the tabs of the test before."""
        parts = urlsplit(self.url)
        return f"http://{parts.netloc}/lab/tree/{path}?{parts.query}&reset"

    def processes(self):
        """What the server has started, and what that has started, by process id."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return {one.pid for one in found if one.status() != psutil.STATUS_ZOMBIE}

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=PATIENCE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.stop()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # As root, in a container, Chromium has no sandbox of its own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, request):
    """A page that remembers what it asked for; its last state is kept as a screenshot."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.asked = []
    context.on("request", lambda one: page.asked.append(one.url))
    page.on("websocket", lambda one: page.asked.append(one.url))
    yield page
    _screenshot(page, request.node.name)
    context.close()


def _screenshot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def _wait(condition, what):
    """Ask until it is so; how long that takes is not looked at."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.05)


def _open(page, address):
    """Open a notebook and wait until it is drawn and its kernel can be used."""
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()


def _cells(path):
    return json.loads(path.read_text())["cells"]


def _run_all(page, saved):
    """Run every cell; returns the cells as JupyterLab then saves them.

    An error that is not meant ends the run: the cells after it then have no count.
    """
    prompts = page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt")
    # Under load the menu's command once reached the notebook too early, and ran nothing.
    for _attempt in range(3):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(500)
        if prompts.filter(has_text=re.compile(r"\[(\*|\d+)\]")).count():
            break
    _wait(lambda: prompts.filter(has_text="[*]").count() == 0, "the end of Run All")
    before = saved.stat().st_mtime_ns  # it saves by itself, too, in the midst of a long run
    page.keyboard.press("Control+s")

    def written():
        try:
            return saved.stat().st_mtime_ns > before and bool(_code(saved))
        except ValueError:  # JupyterLab is writing it at this moment
            return False

    _wait(written, "the notebook with what was run")
    return _cells(saved)


def _code(path):
    return [cell for cell in _cells(path) if cell["cell_type"] == "code"]


def _forget_run(path):
    """Take the outputs out of a notebook, so that none of them can be mistaken for a new one."""
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    path.write_text(json.dumps(notebook))


def test_starts_calm_and_stays_on_the_loopback(lab, page):
    """The first page is the course's, which leads to notebook 00; it asks no question, and stays here."""
    page.goto(lab.url)
    page.get_by_text("exercises passed").wait_for()
    _screenshot(page, "course")
    page.get_by_role("link", name="00 Start here").first.click()
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    assert page.locator(".lm-TabBar-tabLabel", has_text="00_start_here.ipynb").count() == 1
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0
    assert page.locator(".jp-TableOfContents-tree").get_by_text("Choose among five types").count()
    assert urlsplit(lab.url).hostname == "127.0.0.1"
    assert (lab.directory / ".lab" / "workspaces").is_dir()  # not in the reader's home
    _stays_here(lab, page)


def test_refuses_a_stranger(lab, page):
    """Without the token there is a login page, not a lab."""
    page.goto(lab.url.partition("?")[0])
    assert "/login" in page.url
    with socket.socket() as outside:
        assert outside.connect_ex((_other_address(), lab.port)) != 0


def test_runs_lab_01_with_a_live_chart_and_an_interrupt(lab, page, record_property):
    """Run All works; the herd's chart moves; the stop button ends a herd and leaves nothing behind."""
    saved = lab.directory / "notebooks" / NOTEBOOK.name
    _forget_run(saved)
    text, made = saved.read_text(), "ThunderingHerd(clients=40, seconds=1.6, "
    assert text.count(made) == 1
    # the third run lasts until it is interrupted, however late
    lengths = "next(globals().setdefault('_lengths', iter([1.6, 1.6, 60.0, 1.6])))"
    saved.write_text(text.replace(made, made.replace("1.6", lengths)))
    _open(page, lab.address(f"notebooks/{NOTEBOOK.name}"))
    cells = _run_all(page, saved)
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code" or "raises-exception" in cell["metadata"].get("tags", []):
            continue
        errors = [one["evalue"] for one in cell["outputs"] if one["output_type"] == "error"]
        assert not errors, f"cell {number}: {errors[0]}"
        assert cell["execution_count"], f"cell {number} was not run"
    _screenshot(page, "lab_01_after_run_all")
    alts = page.locator(".jp-RenderedImage img").evaluate_all("all => all.map(one => one.alt)")
    assert len(alts) > 5
    assert all(re.fullmatch(r".{20,}\.", alt, re.DOTALL) for alt in alts), alts

    number = next(
        place
        for place, cell in enumerate(cells)
        if cell["cell_type"] == "code" and "herd.run(" in "".join(cell["source"])
    )
    herd = page.locator(".jp-Notebook .jp-Cell").nth(number)
    page.evaluate(WATCH)
    before = page.evaluate("window.painted.size")
    _start(page, herd)
    started = time.monotonic()
    _finished(herd)
    frames = page.evaluate("window.painted.size") - before
    record_property("frames", frames)
    print(f"{frames} frames in {time.monotonic() - started:.1f} s")
    _screenshot(page, "lab_01_herd")
    assert frames > 1, "the chart did not move while the herd ran"

    here = lab.processes()
    _start(page, herd)
    size = page.evaluate("window.painted.size")
    page.wait_for_function("size => window.painted.size > size + 1", arg=size)
    page.locator("[data-jp-item-name=interrupt] button, [data-jp-item-name=interrupt]").last.click()
    herd.locator(".jp-OutputArea-output", has_text="KeyboardInterrupt: stopped").first.wait_for()
    _finished(herd)
    _screenshot(page, "lab_01_interrupted")
    _wait(lambda: lab.processes() <= here, "the end of the herd's processes")

    _start(page, herd)  # and it can be run again
    _finished(herd)
    assert herd.locator(".jp-OutputArea-output", has_text="KeyboardInterrupt").count() == 0
    _stays_here(lab, page)


PANEL = """
import json

from labsupport.labs.cache_aside import ThunderingHerd


def cache_aside(redis, key, load, ttl):
    cached = redis.get(key)
    if cached is None:
        cached = json.dumps(load())
        redis.set(key, cached, px=int(ttl * 1000))
    return json.loads(cached)


def no_cache(redis, key, load, ttl):
    return load()


ThunderingHerd(clients=8, seconds=1.0, ttl_seconds=0.3).panel(naive=cache_aside, none=no_cache)
"""


def test_panel_runs_stops_and_compares(lab, page):
    """Run draws, a slider moves meanwhile, Stop ends it in the middle; then two runs are compared."""
    notebook = lab.directory / "notebooks" / "panel.ipynb"
    # the first run lasts until it is stopped, however late
    cell = nbformat.v4.new_code_cell(PANEL.replace("seconds=1.0", "seconds=60.0"), id="panel")
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), notebook
    )
    _open(page, lab.address("notebooks/panel.ipynb"))
    cell = page.locator(".jp-Notebook .jp-Cell").first
    _start(page, cell)
    _finished(cell)
    run, stop, compare = (
        cell.locator("button", has_text=name) for name in ("Run", "Stop", "Compare")
    )
    run.wait_for()
    note = cell.get_by_text("A panel with sliders")  # for where no widget is drawn
    assert note.count() == 1
    assert not note.is_visible()
    assert stop.is_disabled()
    assert compare.is_disabled()
    here = lab.processes()
    page.evaluate(WATCH)

    seconds = cell.locator(".widget-readout").nth(1)  # clients, seconds, ttl seconds, processes
    _set(page, seconds, "50")
    run.click()
    _wait(lambda: page.evaluate("window.painted.size") > 3, "a chart that moves")
    assert run.is_disabled()
    _set(page, seconds, "1")  # while it runs
    _screenshot(page, "panel_running")
    stop.click()
    said = cell.locator(".lab-panel-said")
    said.get_by_text("Stopped.").wait_for()
    _wait(lambda: lab.processes() <= here, "the end of the run's processes")
    assert stop.is_disabled()

    verdict = said.get_by_text("Every request gets the value")
    for name, there in (("naive", verdict.is_visible), ("none", compare.is_enabled)):
        cell.locator("button", has_text=name).click()
        run.click()
        _wait(there, "the end of the run")
        verdict.wait_for()
        _screenshot(page, f"panel_{name}")
    page.set_viewport_size({"width": 1280, "height": 720})  # a small laptop's: the verdict, too
    room = page.locator(".jp-WindowedPanel-outer").bounding_box()["height"]
    _wait(lambda: cell.locator(".lab-panel").bounding_box()["height"] < room, "a low panel")
    compare.click()
    said.get_by_text("as many loads at once as naive").wait_for()
    _screenshot(page, "panel_compared")
    assert cell.locator(".lab-panel").bounding_box()["height"] < room
    assert cell.locator(".widget-image").bounding_box()["height"] > 0.4 * 720  # beside one claim
    _many_claims_are_in_view(page, cell.locator(".lab-panel"))
    page.set_viewport_size({"width": 700, "height": 500})  # as at 200 %
    assert cell.locator(".lab-panel :is(button, .widget-label)").evaluate_all(
        "all => all.every(one => one.scrollWidth <= one.clientWidth)"
    )
    _stays_here(lab, page)


def _many_claims_are_in_view(page, panel):
    """Lab 16's eight stand beside its high chart, where there is room for a column of them."""
    saved = (one["outputs"] for one in _code(next(NOTEBOOK.parent.glob("16_*.ipynb"))))
    chart, verdict = next(
        [one["data"] for one in outputs]
        for outputs in saved
        if [next(iter(one.get("data", ())), None) for one in outputs] == ["image/png", "text/html"]
    )
    page.set_viewport_size({"width": 1280, "height": 800})
    panel.evaluate(
        """async (panel, [chart, verdict]) => {
            panel.querySelector(".lab-panel-said > div").innerHTML = verdict;
            const picture = panel.querySelector("img");
            picture.src = "data:image/png;base64," + chart;
            await picture.decode();
        }""",
        [chart["image/png"], "".join(verdict["text/html"])],
    )
    picture, said = (
        panel.locator(f".{name}").bounding_box() for name in ("widget-image", "lab-panel-said")
    )
    assert said["x"] >= picture["x"] + picture["width"]
    assert abs(said["y"] - picture["y"]) < 10
    outer = page.locator(".jp-WindowedPanel-outer")
    # lab 16 has two more rows of knobs
    assert panel.bounding_box()["height"] < outer.bounding_box()["height"] - 80
    page.set_viewport_size({"width": 1024, "height": 768})  # below it, in a line each
    _wait(lambda: outer.bounding_box()["height"] < 700, "a lower window")
    _wait(
        lambda: panel.bounding_box()["height"] < outer.bounding_box()["height"] - 68,
        "eight claims in a small window",
    )


def test_panel_outlives_its_page_and_says_when_its_kernel_is_gone(lab, page):
    """Loaded anew it runs, and Interrupt stops it; without its kernel it says what to do."""
    notebook = lab.directory / "notebooks" / "anew.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    code = [nbformat.v4.new_code_cell(PANEL.replace("seconds=1.0", "seconds=60.0"), id="anew")]
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel}), notebook)
    _open(page, lab.address("notebooks/anew.ipynb"))
    cell = page.locator(".jp-Notebook .jp-Cell").first
    _start(page, cell)
    _finished(cell)
    cell.locator("button", has_text="Run").wait_for()
    page.keyboard.press("Control+s")
    _wait(lambda: page.locator(".lm-TabBar-tab.jp-mod-dirty").count() == 0, "a notebook as saved")
    _open(page, lab.address("notebooks/anew.ipynb"))
    run = cell.locator("button", has_text="Run")
    page.evaluate(WATCH)
    run.click()
    _wait(lambda: page.evaluate("window.painted.size") > 3, "a chart that moves")
    picture = cell.locator(".lab-panel img")
    _wait(lambda: picture.get_attribute("alt") == "naive, so far.", "the alt text of its frames")
    assert cell.locator(".jp-RenderedImage, .jp-RenderedHTML").evaluate_all(
        "all => all.every(one => !one.offsetParent)"
    )  # what stands for the panel where there is none
    page.locator("[data-jp-item-name=interrupt] button, [data-jp-item-name=interrupt]").last.click()
    cell.locator(".lab-panel-said").get_by_text("Stopped.").wait_for()
    _screenshot(page, "panel_interrupted")

    page.locator("[data-jp-item-name=restart] button, [data-jp-item-name=restart]").last.click()
    page.locator(".jp-Dialog button", has_text="Restart").click()
    cell.locator(".lab-panel.jupyter-widgets-disconnected").wait_for()
    _screenshot(page, "panel_without_its_kernel")
    page.keyboard.press("Control+s")
    _wait(lambda: page.locator(".lm-TabBar-tab.jp-mod-dirty").count() == 0, "a notebook as saved")
    _open(page, lab.address("notebooks/anew.ipynb"))
    cell.get_by_text("Run this cell again").wait_for()
    assert cell.get_by_text("Error displaying widget").count() == 0
    _screenshot(page, "panel_opened_again")


def test_interrupt_ends_the_cell_and_the_run_of_the_panel(lab, page):
    """One press ends both, while the kernel's main thread is at the cell; then cells run as before."""
    notebook = lab.directory / "notebooks" / "both.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    sources = [
        PANEL.replace("seconds=1.0", "seconds=60.0"),
        "print('begun')\nwhile True:\n    pass",
        "print(6 * 7)",
    ]
    code = [nbformat.v4.new_code_cell(one, id=f"cell-{place}") for place, one in enumerate(sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel}), notebook)
    _open(page, lab.address("notebooks/both.ipynb"))
    panel, busy, last = (page.locator(".jp-Notebook .jp-Cell").nth(number) for number in range(3))
    _start(page, panel)
    _finished(panel)
    run = panel.locator("button", has_text="Run")
    run.wait_for()
    here = lab.processes()
    page.evaluate(WATCH)
    run.click()
    _wait(lambda: page.evaluate("window.painted.size") > 3, "a chart that moves")
    _start(page, busy)
    # on a busy machine an interrupt may overtake the request to run a cell that already shows [*]
    busy.locator(".jp-OutputArea-output", has_text="begun").first.wait_for()
    page.locator("[data-jp-item-name=interrupt] button, [data-jp-item-name=interrupt]").last.click()
    busy.locator(".jp-OutputArea-output", has_text="KeyboardInterrupt").first.wait_for()
    _finished(busy)
    panel.locator(".lab-panel-said").get_by_text("Stopped.").wait_for()
    _wait(lambda: lab.processes() <= here, "the end of the run's processes")
    last.locator(".jp-InputPrompt").click()
    page.keyboard.press("Control+Enter")
    last.locator(".jp-OutputArea-output", has_text="42").wait_for()


STEPPER = """
from labsupport import explore


def add(redis, db):
    redis.set("n", int(redis.get("n") or 0) + 1)


explore({"ada": add, "bob": add}, invariant=lambda redis, db: redis.get("n") == "2").step_through()
"""


def test_steps_through_a_schedule(lab, page):
    """Buttons and arrow keys go on and back, beside the state of Redis; a moved step mends it."""
    notebook = lab.directory / "notebooks" / "stepper.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(STEPPER, id="stepper")],
            metadata={"kernelspec": kernel},
        ),
        notebook,
    )
    _open(page, lab.address("notebooks/stepper.ipynb"))
    cell = page.locator(".jp-Notebook .jp-Cell").first
    _start(page, cell)
    _finished(cell)
    cell.get_by_text("Before the first step").wait_for()
    assert cell.locator(".jp-RenderedImage img").is_hidden()  # the picture, for where no widget is
    on = cell.locator("button", has_text="on")
    on.click()
    cell.get_by_text("1. ada: GET n → nil").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    cell.get_by_text("3. bob: SET n 1 → OK").wait_for()
    assert "● n1" in cell.locator(".lab-steps-state").inner_text().replace("\t", "")
    _screenshot(page, "stepper")
    letters = cell.locator(".lab-steps button, .lab-steps-state *").evaluate_all(
        "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))"
    )
    picture = cell.locator(".lab-steps img").bounding_box()["width"]
    letters.append(Size.NOTE / 72 * picture / _INCHES)
    assert min(letters) >= 16, "to be read from the back of a room"
    page.keyboard.press("ArrowLeft")
    cell.get_by_text("2. bob: GET n → nil").wait_for()
    cell.locator("button", has_text="later").click()
    cell.get_by_text("Now it holds.").wait_for()
    _screenshot(page, "stepper_moved")
    page.set_viewport_size({"width": 1024, "height": 768})  # the state goes below the picture
    _wait(lambda: cell.locator(".lab-steps img").bounding_box()["width"] > 500, "a wide picture")
    _stays_here(lab, page)


@pytest.mark.long
def test_axe_finds_nothing_in_what_is_ours(lab, page):
    """The panel, the stepper, a saved notebook with its predictions, the course page; not JupyterLab."""
    notebook = lab.directory / "notebooks" / "own.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    code = [nbformat.v4.new_code_cell(text, id=f"code-{len(text)}") for text in (PANEL, STEPPER)]
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel}), notebook)
    _open(page, lab.address("notebooks/own.ipynb"))
    for number in range(2):
        cell = page.locator(".jp-Notebook .jp-Cell").nth(number)
        _start(page, cell)
        _finished(cell)
    page.get_by_text("Before the first step").wait_for()
    page.locator(".noUi-handle[aria-label]").nth(4).wait_for()
    assert violations(page, include=[".jp-Notebook .jp-OutputArea"]) == []
    _open(page, lab.address(f"notebooks/{NOTEBOOK.name}"))
    page.locator(".lab-guess").first.wait_for()
    ours = [".jp-Notebook .jp-MarkdownOutput", ".jp-Notebook .jp-OutputArea", ".lab-guess"]
    assert violations(page, include=ours) == []
    page.goto(lab.url)
    page.get_by_text("exercises passed").wait_for()
    assert violations(page, include=[".jp-MarkdownViewer"]) == []


def test_asks_for_a_prediction_first(lab, page):
    """What comes out is hidden, and what is said of it blurred, until a prediction, a click or a run."""
    notebook = lab.directory / "notebooks" / "guess.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    code = [
        nbformat.v4.new_code_cell(
            f"print({n})",
            id=f"code-{n}",
            execution_count=n,
            outputs=[nbformat.v4.new_output("stream", text=f"the answer is {n}\n")],
        )
        for n in range(3)
    ]
    texts = {"ask": "**Predict** the number.", "told": "So it is.\n\n## What else\n\nA lot."}
    ask, told = (nbformat.v4.new_markdown_cell(text, id=name) for name, text in texts.items())
    cells = [ask, code[0], code[1], told, code[2]]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), notebook)
    before = notebook.read_bytes()
    _open(page, lab.address("notebooks/guess.ipynb"))
    hidden = page.locator(".lab-hidden")
    veiled = page.locator(".lab-veiled")
    _wait(lambda: hidden.count() == 2, "two outputs that are hidden")
    answer = page.get_by_text("the answer is 0")
    assert not answer.is_visible()
    _wait(lambda: veiled.all_inner_texts() == ["So it is."], "the answer, blurred")
    _screenshot(page, "prediction")
    hidden.first.click()
    _wait(lambda: hidden.count() == 1, "one that is shown, as it was clicked")
    assert answer.is_visible()
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cells.nth(1).locator(".jp-InputPrompt").click()
    page.keyboard.press("Control+Enter")
    _wait(lambda: hidden.count() == 0, "one that is shown, as it was run")
    _wait(lambda: veiled.count() == 0, "the answer")
    page.reload()
    _wait(lambda: hidden.count() == 2, "two outputs that are hidden again")
    guess = page.get_by_label("Your prediction")
    guess.press_sequentially("dd xab")  # in a notebook, d and d delete a cell
    page.route("**/guess.ipynb?*", lambda route: route.abort())
    page.keyboard.press("Control+s")
    page.locator(".jp-Dialog").wait_for()  # it takes the focus, and gives it back
    page.unroute_all()
    # no key closes it: one that is pressed before the focus is there goes elsewhere
    back = """one => {
        const dialog = document.querySelector(".jp-Dialog");
        dialog?.querySelector("button").click();
        return !dialog && one === document.activeElement;
    }"""
    _wait(lambda: guess.evaluate(back), "the focus")
    assert hidden.count() == 2
    page.keyboard.type(" 42")
    assert page.locator(".jp-Notebook .jp-Cell").count() == 5
    page.reload()  # at once: what was typed is there all the same, and finished by nobody
    _wait(lambda: guess.count() and guess.input_value() == "dd xab 42", "what was typed")
    _wait(lambda: hidden.count() == 2, "two outputs that are hidden still")
    guess.press("Enter")
    page.reload()
    _wait(lambda: guess.count() and guess.input_value() == "dd xab 42", "what was finished")
    _wait(lambda: hidden.count() + veiled.count() == 0, "what was predicted")
    kept = notebook.parent / "predictions.json"
    _wait(lambda: kept.exists() and "42" in kept.read_text(), "what is kept")
    assert json.loads(kept.read_text()) == {"guess.ipynb": {"ask": "dd xab 42"}}
    page.evaluate("localStorage.clear()")  # as in another browser
    page.reload()
    _wait(lambda: guess.count() and guess.input_value() == "dd xab 42", "what was written")
    assert hidden.count() == 0
    _wait(lambda: page.locator(".lm-TabBar-tab.jp-mod-dirty").count() == 0, "a notebook as saved")
    assert notebook.read_bytes() == before
    told = page.locator(".jp-CodeCell .jp-Cell-outputArea").evaluate_all(
        "all => all.map(one => one.dataset.guess)"
    )
    assert told == ["dd xab 42", "", ""]  # over the first result; the third is no answer
    kept.write_text("damaged")
    guess.fill("43")
    guess.press("Enter")
    _wait(lambda: '"43"' in kept.read_text(), "the next one, in a file that begins again")


def test_charts_fill_their_column(lab, page):
    """At each width, until they would be higher than the window; nothing of them is cut."""
    notebook = lab.directory / "notebooks" / "width.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    drawn = next(
        one
        for cell in cells
        for one in cell.get("outputs", [])
        if "image/png" in one.get("data", {})
    )
    code = [nbformat.v4.new_code_cell("chart", id="width", outputs=[nbformat.from_dict(drawn)])]
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel}), notebook)
    _open(page, lab.address("notebooks/width.ipynb"))
    chart = page.locator(".jp-RenderedImage img")
    for width in (1024, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 1080})
        _wait(lambda: abs(chart.bounding_box()["width"] - _due(page)) < 2, f"{width} pixels")
        look, box = drawn["metadata"]["image/png"], chart.bounding_box()
        assert abs(box["width"] / box["height"] - look["width"] / look["height"]) < 0.02


def test_a_chart_and_its_verdict_are_in_one_view(lab, page):
    """Of every run that the labs have saved, in a window of 1440 by 900."""
    found = [
        cell["outputs"]
        for path in sorted(NOTEBOOK.parent.glob("[0-9]*.ipynb"))
        for cell in _code(path)
        if [list(one.get("data", ())) for one in cell["outputs"]]
        == [["image/png", "text/plain"], ["text/html", "text/plain"]]
    ]
    code = [
        nbformat.v4.new_code_cell("run", id=f"run-{at}", outputs=list(map(nbformat.from_dict, one)))
        for at, one in enumerate(found)
    ]
    assert len(code) > 40
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = lab.directory / "notebooks" / "view.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel}), notebook)
    page.set_viewport_size({"width": 1440, "height": 900})
    _open(page, lab.address("notebooks/view.ipynb"))
    page.wait_for_function("() => [...document.images].every(one => one.complete)")
    room = page.locator(".jp-WindowedPanel-outer").bounding_box()["height"]
    areas = page.locator(".jp-Cell-outputArea").evaluate_all(
        "all => all.map(one => one.offsetHeight)"
    )
    assert [(at, high) for at, high in enumerate(areas) if high > room] == []
    least = page.locator(".jp-RenderedImage img").evaluate_all(
        "all => Math.min(...all.map(one => one.offsetHeight / (one.naturalHeight / 2)))"
    )
    assert least > 0.55  # of its own size


def _due(page):
    return min(1300, page.locator(".jp-RenderedImage").bounding_box()["width"])


def test_signs_in_a_table_look_like_badges(lab, page):
    """In the colours of the claims, also in a table as it was saved; other cells stay as they are."""
    notebook = lab.directory / "notebooks" / "signs.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    table = pd.DataFrame({"naive": ["✗", "?", "1"], "fixed": ["✓", "✓", "2"]}).to_html()
    output = nbformat.v4.new_output("display_data", {"text/html": table})
    code = [nbformat.v4.new_code_cell("table", id="signs", outputs=[output])]
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel}), notebook)
    _open(page, lab.address("notebooks/signs.ipynb"))
    page.locator("td.lab-broken").wait_for()
    found = page.locator(".dataframe td").evaluate_all(
        "all => all.map(one => [one.textContent, getComputedStyle(one).backgroundColor])"
    )
    badges = {sign: background for sign, _, background in _LOOK.values()}
    for sign, colour in found:
        if sign in badges:
            assert colour == f"rgb{tuple(bytes.fromhex(badges[sign][1:]))}"
        else:
            assert colour == "rgba(0, 0, 0, 0)"


def _set(page, readout, value):
    """Type a value into a slider's read-out."""
    readout.click()
    page.keyboard.press("Control+a")
    page.keyboard.type(value)
    page.keyboard.press("Enter")


def _start(page, cell):
    """Run one cell, and wait until the kernel has been asked to."""
    cell.scroll_into_view_if_needed()
    cell.locator(".jp-InputPrompt").click()
    page.keyboard.press("Control+Enter")
    cell.locator(".jp-InputPrompt", has_text="[*]").wait_for()


def _finished(cell):
    cell.locator(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]")).wait_for()


def _stays_here(lab, page):
    """Neither the page nor any Python of the lab has asked for another machine."""
    asked = {urlsplit(url).hostname for url in page.asked if not url.startswith(("data:", "blob:"))}
    assert asked == {"127.0.0.1"}
    told = lab.connections.read_text().split()
    assert told.count("listening") >= 2  # the server, a kernel
    assert set(told) - {"listening"} <= HERE


def _other_address():
    """This machine's address on its network, if it has one; connecting UDP sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return probe.getsockname()[0]
