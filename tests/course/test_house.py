"""The parts of the house agree: lists of packages, commands, pages, notebooks."""

import ast
import importlib
import json
import os
import re
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from labsupport.course import titles
from labsupport.servers import MINIMUM_VERSION
from tools.notebooks import problems

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = SpecifierSet(PROJECT["requires-python"])
NOT_LOCKED = {"class", "slides", "web"}
LOCK = (ROOT / "requirements.lock").read_text()
LOCK_OF_CLASS = (ROOT / "jupyter" / "class.lock").read_text()
CONDA_OF_BINDER = "binder/environment.yml"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
INSTALL = """# Does nothing where the lab is installed, as with make lab.
from importlib.util import find_spec
from pathlib import Path

if find_spec("labsupport") is None and Path("../labsupport").is_dir():
    %pip install --quiet "..[lab]"
elif find_spec("labsupport") is None:
    print("The lab is not here: get the whole course, and open this notebook in its folder.")"""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def _read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def _requirements():
    extras = PROJECT["optional-dependencies"]
    lists = [PROJECT["dependencies"], *(extras[name] for name in extras if name not in NOT_LOCKED)]
    return [Requirement(text) for one in lists for text in one]


def _locked(lock=LOCK):
    """The lock's entries as {name: [versions]}; there are two where the Python matters."""
    found = {}
    for name, version in re.findall(r"^([\w.\[\]-]+)==(\S+)", lock, re.MULTILINE):
        found.setdefault(canonicalize_name(name.partition("[")[0]), []).append(Version(version))
    return found


# The lists of packages


def test_lock_satisfies_every_range():
    """Each requirement of pyproject.toml is locked inside its range, but for extras that are not locked."""
    locked = _locked()
    for one in _requirements():
        if canonicalize_name(one.name) == PROJECT["name"]:
            continue  # one extra that brings another
        versions = locked.get(canonicalize_name(one.name), [])
        assert versions, f"{one.name} is not in requirements.lock: make lock"
        assert all(version in one.specifier for version in versions), f"{one}: {versions}"


def test_lock_can_build_the_project():
    """What the build needs is locked too, so that setting up asks for nothing else."""
    build = tomllib.loads(_read("pyproject.toml"))["build-system"]["requires"]
    for one in map(Requirement, build):
        assert all(version in one.specifier for version in _locked()[canonicalize_name(one.name)])
    assert {"editables", "hatchling", "uv"} <= _locked().keys()


@pytest.mark.parametrize("lock", [LOCK, LOCK_OF_CLASS], ids=["requirements", "class"])
def test_lock_has_hashes_and_no_hosts(lock):
    """Every entry carries a hash; no index, no host, no path of a machine."""
    entries = re.split(r"\n(?=[\w])", lock)
    assert all("--hash=sha256:" in one for one in entries if "==" in one)
    assert not re.search(r"://|--(extra-)?index|--find-links|file:|(^|\s)/", lock)


def test_the_class_adds_to_the_lock_and_changes_nothing():
    """The hub's image holds the versions that the lab was tested with."""
    locked, added = _locked(), _locked(LOCK_OF_CLASS)
    assert all(set(added[name]) <= set(locked[name]) for name in added.keys() & locked.keys())
    for one in map(Requirement, PROJECT["optional-dependencies"]["class"][:2]):
        assert all(version in one.specifier for version in added[one.name])


def test_every_list_names_the_same_pythons():
    """conda, the image, ruff and CI offer the Pythons of pyproject.toml."""
    conda = _conda()
    assert SpecifierSet(conda["python"]) == PYTHONS
    image = re.search(r"^FROM python:([\d.]+)", _read("Dockerfile"), re.MULTILINE)
    assert image
    assert image.group(1) in PYTHONS
    minors = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in PYTHONS]
    jobs = yaml.safe_load(_read(".github/workflows/ci.yml"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == minors
    ruff = tomllib.loads(_read("pyproject.toml"))["tool"]["ruff"]
    assert ruff["target-version"] == f"py{minors[0].replace('.', '')}"
    assert all(minor in _read("README.md") for minor in minors)


def test_conda_takes_its_packages_from_the_project():
    """environment.yml repeats no range but that of Python and the server."""
    entries = yaml.safe_load(_read("environment.yml"))
    assert _conda().keys() == {"python", "redis-server", "pip"}
    assert entries["dependencies"][-1] == {"pip": ["-e .[lab]"]}
    assert SpecifierSet(_conda()["redis-server"]) == SpecifierSet(f">={_minimum()}")


def test_image_is_set_up_as_anywhere():
    """The image runs `make setup` (the lock, with its hashes) and `make lab`, and not as root."""
    image = _read("Dockerfile")
    user, setup, start = (
        re.search(pattern, image, re.MULTILINE)
        for pattern in (r"^USER (?!root)", r"^RUN .*make setup$", r'^CMD \["make", "lab"')
    )
    assert user
    assert setup
    assert start
    assert user.start() < setup.start() < start.start()
    assert "--require-hashes" in _read("tools/setup.sh")
    assert {".git", ".venv", ".lab"} <= set(_read(".dockerignore").split())


def test_devcontainer_and_binder_follow():
    """The devcontainer is built from the same image; Binder gets what environment.yml lists."""
    container = json.loads(_read(".devcontainer/devcontainer.json"))
    folder = ROOT / ".devcontainer"
    assert (folder / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / container["build"]["context"]).resolve() == ROOT
    assert f"USER {container['remoteUser']}" in _read("Dockerfile")
    conda, binder = (yaml.safe_load(_read(name)) for name in ("environment.yml", CONDA_OF_BINDER))
    assert binder["dependencies"] == conda["dependencies"][:-1]
    assert binder["channels"] == conda["channels"]
    assert "pip install --no-cache-dir -e '.[lab]'" in _read("binder/postBuild")
    assert all(os.access(ROOT / "binder" / name, os.X_OK) for name in ("postBuild", "start"))


def test_compose_and_ci_use_the_same_redis():
    """One pinned Redis, new enough, with a health check; the lab's port is the loopback's."""
    compose = yaml.safe_load(_read("docker-compose.yml"))["services"]
    ci = yaml.safe_load(_read(".github/workflows/ci.yml"))["jobs"]["test"]
    assert "matrix.image" in ci["services"]["redis"]["image"]
    images = ci["strategy"]["matrix"]["image"]
    assert images[0] == ""
    assert compose["redis"]["image"] in images
    valkeys = [one.partition("valkey/valkey:")[2] for one in images if "valkey/" in one]
    assert {Version(one).major for one in valkeys} == {8, 9}
    version = re.fullmatch(r"redis:(\d+\.\d+\.\d+)", compose["redis"]["image"])
    assert version
    assert Version(version.group(1)) >= Version(_minimum())
    assert compose["redis"]["healthcheck"]["test"]
    assert "ports" not in compose["redis"]
    assert all(port.startswith("127.0.0.1:") for port in compose["lab"]["ports"])


def _conda():
    entries = yaml.safe_load(_read("environment.yml"))["dependencies"]
    plain = [one for one in entries if isinstance(one, str)]
    return dict([*one.split(maxsplit=1), ""][:2] for one in plain)


def _minimum():
    return ".".join(map(str, MINIMUM_VERSION))


# Commands and pages


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/teaching.md",
        "docs/glossary.md",
        "docs/sources.md",
    ],
)
def test_pages_name_commands_that_exist(page):
    """Every `make something` of a page is a target of the Makefile, and every link leads somewhere."""
    targets = set(re.findall(r"^([a-z]+):", _read("Makefile"), re.MULTILINE))
    text = _read(page)
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE))
    assert named <= targets
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in link or (ROOT / page).parent.joinpath(link).exists(), link


def test_every_command_is_phony_and_told():
    """A file of the same name never shadows a target, and `make help` knows them all."""
    text = _read("Makefile")
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert set(re.search(r"^\.PHONY: (.*)", text, re.MULTILINE).group(1).split()) == targets
    assert {"lab", "test", "notebooks", "bench", "doctor", "reset", "lock"} <= targets


def test_ci_runs_what_the_readme_says():
    """Continuous integration runs the test command of the README, and the longer checks beside it."""
    (block,) = re.findall(r"```sh\n(.*?)```", _section("README.md", "Two commands"), re.DOTALL)
    lab, test = (line.partition("#")[0].strip() for line in block.splitlines())
    assert (lab, test) == ("make lab", "make test")
    assert _read(".ci/run").splitlines()[-2:] == [test, "exec make test-long"]
    steps = yaml.safe_load(_read(".github/workflows/ci.yml"))["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step and "if" not in step] == [".ci/run"]


def test_set_up_is_shorter_than_the_reason():
    """The README first says why; its table of set-ups is shorter than that."""
    why, _, rest = _read("README.md").partition("\n## Two commands\n")
    table = re.findall(r"^\|.*", rest.partition("\n## ")[0], re.MULTILINE)
    assert sum(map(len, table)) < len(why)


def test_readme_and_cards_agree_on_the_time():
    """The README promises of each lab what its card does; a new one says nothing yet."""
    cards = [nbformat.read(path, as_version=4).cells[0].source for path in NOTEBOOKS]
    times = [re.search(r"\*\*Time\*\* \| (\d+) minutes", card) for card in cards]
    promised = re.findall(r"ipynb\) \| .* \| (.*) \|$", _read("README.md"), re.MULTILINE)
    assert promised == [time.group(1) if time else "?" for time in times]
    assert times[0].group().rpartition(" | ")[2] in _section("README.md", "Where to go next")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").rglob("benchmark.py")), ids=lambda path: path.parent.name
)
def test_benchmarks_use_what_there_is(path):
    """`make bench` finds it, and each name that it takes from labsupport exists."""
    pattern = r"for file in (tests/explorer/benchmark\.py) (tests/labs/\*/benchmark\.py);"
    found = re.search(pattern, _read("Makefile")).groups()
    assert any(path in ROOT.glob(one) for one in found)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith(("labsupport", "tests")):
            module = importlib.import_module(node.module)
            missing = [one.name for one in node.names if not hasattr(module, one.name)]
            assert not missing, f"{node.module} has no {missing}"


def test_jupyterlab_starts_calm_and_on_the_loopback():
    """The settings that `make lab` ships: no news, no updates, no extension manager, no network."""
    config = json.loads(_read("jupyter/jupyter_lab_config.json"))
    assert config["ServerApp"]["ip"] == "127.0.0.1"
    assert "token" not in config["ServerApp"]  # a fresh one at every start
    assert config["LabApp"]["news_url"] is None
    assert config["LabApp"]["default_url"].endswith("notebooks/course.md")
    # Not JupyterLab's alone: the slides of `make present` are an application of their own.
    assert config["LabServerApp"]["extra_labextensions_path"] == ["jupyter/labextensions"]


def test_a_lab_has_one_name_everywhere():
    """Its folders, its notebook, the notebook's heading and the name that opens it agree."""
    assert sorted(path.stem for path in NOTEBOOKS) == [
        f"{title[:2]}_{lab}" for lab, title in titles().items()
    ]
    for (lab, title), path in zip(titles().items(), NOTEBOOKS, strict=True):
        card, *_ = cells = nbformat.read(path, as_version=4).cells
        assert card.source.startswith(f"# {title[:2]} · {title[3:]}: ")
        assert any(f'lab = Lab("{lab}")' in cell.source for cell in cells)
        assert (ROOT / "tests" / "labs" / lab).is_dir()


def test_readme_lists_every_lab():
    """Each lab is in the table, with its notebook; only those that there are not yet are planned."""
    rows = re.findall(
        r"^\| (.*?) \| .+? \| (.*?) ?\|$", _section("README.md", "The labs"), re.MULTILINE
    )
    assert rows.pop(0)[0] == "Lab"
    linked = [f"[{title}](notebooks/{title[:2]}_{lab}.ipynb)" for lab, title in titles().items()]
    assert [name for name, mark in rows if mark != "planned"] == linked
    assert all(re.fullmatch(r"\d\d [\w ]+", name) for name, mark in rows if mark == "planned")
    numbers = [name.lstrip("[")[:2] for name, _ in rows]
    assert numbers == [f"{number:02}" for number in range(len(rows))]


def test_the_teachers_table_lists_every_lab():
    """One row a week and a lab, and each cell of it says something."""
    rows = re.findall(r"^\| (\d+) \| (\d\d) \|(.*)\|$", _read("docs/teaching.md"), re.MULTILINE)
    assert [lab for _, lab, _ in rows] == [title[:2] for title in titles().values()]
    assert [int(week) for week, _, _ in rows] == list(range(1, len(rows) + 1))
    assert all(cell.strip() for _, _, cells in rows for cell in cells.split("|"))


def _section(name, heading):
    return _read(name).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


# Notebooks


@every_notebook
def test_notebook_is_one_clean_run(path):
    """Counts 1..n, no unmeant error, nothing on stderr, no widget, no path of a machine."""
    assert problems(nbformat.read(path, as_version=4)) == []


@every_notebook
def test_notebook_installs_then_imports_and_opens(path):
    """The first code cell is folded, as few need it; the second imports, and opens the lab."""
    cells = nbformat.read(path, as_version=4).cells
    install, opening = [cell for cell in cells if cell.cell_type == "code"][:2]
    assert install is cells[1]  # right below the card, so that "the next cell" opens the lab
    assert install.source == INSTALL
    assert install.metadata.slideshow.slide_type == "skip"
    assert install.metadata.jupyter.source_hidden
    assert install.outputs == []
    assert re.search(r"^from labsupport import .*\bLab\b", opening.source, re.MULTILINE)
    assert re.fullmatch(r'lab = Lab\("\w+"\)', opening.source.splitlines()[-1])


@every_notebook
def test_notebook_reads_well(path):
    """One H1, no cell over 20 lines (25 with a docstring), slide metadata on every cell, ids that stay."""
    notebook = nbformat.read(path, as_version=4)
    titles = [
        line
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL).splitlines()
        if line.startswith("# ")
    ]
    assert len(titles) == 1
    first = path.name.startswith("00_")
    assert first or "(00_start_here.ipynb#What-a-proof-is)" in notebook.cells[0].source
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            assert "pipeline()" not in cell.source, f"cell {number}: with MULTI, or without?"
            most = 25 if '"""' in cell.source else 20  # an exercise's contract may be longer
            assert len(cell.source.splitlines()) <= most, f"cell {number} is too long"
        kind = cell.metadata.get("slideshow", {}).get("slide_type")
        assert kind in {"slide", "subslide", "fragment", "skip", "notes", "-"}, f"cell {number}"
    assert path.stat().st_size < 1_100_000


@every_notebook
def test_notebook_reads_alike_on_every_page(path):
    """No TeX, which slides and the web edition would show as it is; no sentence that looks like an item."""
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.cell_type == "markdown":
            assert "$$" not in cell.source, f"cell {number}"
            items = re.findall(r"^(\d+)[.)] ", cell.source, re.MULTILINE)
            assert items == [f"{place}" for place in range(1, len(items) + 1)], f"cell {number}"


@every_notebook
def test_notebook_cites_what_the_sources_list(path):
    """Each link of its text to the web stands in docs/sources.md, with the lab's number behind it."""
    row = r"^\| \[.*?\]\((\S+)\) \|(?:.* \|)? ([\d, ]+) \|$"
    rows = re.findall(row, _read("docs/sources.md"), re.MULTILINE)
    listed = {link for link, labs in rows if path.name[:2] in labs}
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert set(re.findall(r"https?://[^\s)]+", text)) - listed == set()


@every_notebook
def test_notebook_is_seen_anywhere(path):
    """Whatever shows it, JupyterLab, VS Code, a web site, a terminal: a kind that it knows is there."""
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        for output in cell.get("outputs", []):
            kinds = set(output.get("data", {"text/plain": ""}))
            assert "text/plain" in kinds, f"cell {number}"
            assert kinds <= {"text/plain", "text/html", "image/png"}, f"cell {number}: {kinds}"


@every_notebook
def test_notebook_describes_its_pictures(path):
    """Every picture, drawn or embedded, has alt text; a drawn one has a full sentence."""
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        for output in cell.get("outputs", []):
            for kind in {"image/png", "image/svg+xml", "image/jpeg"} & output.get(
                "data", {}
            ).keys():
                alt = output.metadata.get(kind, {}).get("alt", "")
                assert re.fullmatch(r"[^a-z].{20,}\.", alt, re.DOTALL), f"cell {number}: {alt!r}"
        if cell.cell_type == "markdown":
            assert "![](" not in cell.source, f"cell {number}"
            assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", cell.source))
