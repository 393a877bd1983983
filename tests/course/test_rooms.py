"""The rooms of labsupport: who may import from whom, how large they are, what stays private.

All of it is read from the source (`ast`), so imports inside functions and those for the type checker
count, too.
"""

import ast
import copy
import functools
import subprocess
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2] / "labsupport"
ORDER = (
    "errors",
    "verdict",
    "prints",
    "processes",
    "servers",
    "database",
    "history",
    "workers",
    "charts",
    "explorer",
    "exploration",
    "experiments",
    "exercises",
    "labs",
    "course",
    "lab",
    "doctor",
    "fixtures",
    "labsupport",
)
"""A module imports only from rooms above its own; the package's face, `labsupport`, from all."""
TAKEN_HOME = {"explorer": {"errors", "verdict"}}
"""Rooms that may import less than the order allows, so that they can be taken home."""
MOST_MODULES = 12
STILL_THERE = {
    "exercises.trials imports explore from labsupport",
    "labs.sliding_window.rate_limit uses self._bars",
    "labs.token_bucket.bucket_limit uses self._bars",
    "labs.write_behind.view_counts uses self._axes",
}
"""What breaks a rule today. Take away from it; add nothing."""


class Arrow(NamedTuple):
    """An import: the module that asks, the module that answers, and the name."""

    asks: str
    answers: str
    name: str

    def __str__(self):
        return f"{self.asks} imports {self.name} from {self.answers}"


class House:
    """The modules below a folder, by dotted name without the package's own: "charts.style"."""

    def __init__(self, root):
        self.package = root.name
        self.paths = {self._name(path, root): path for path in sorted(root.rglob("*.py"))}
        self.trees = {name: ast.parse(path.read_text()) for name, path in self.paths.items()}

    def _name(self, path, root):
        parts = path.relative_to(root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or self.package

    def module_of(self, dotted):
        """The module that a dotted path leads to, or that holds its last part; None outside."""
        head, _, rest = dotted.partition(".")
        if head != self.package:
            return None
        if not rest:
            return self.package
        while rest and rest not in self.paths:
            rest = rest.rpartition(".")[0]
        return rest or self.package

    @functools.cached_property
    def arrows(self):
        """All imports of one module from another."""
        found = []
        for asks, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    targets = [(alias.name, alias.name) for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    assert node.level == 0, f"{asks}:{node.lineno}: a relative import"
                    targets = [(f"{node.module}.{one.name}", one.name) for one in node.names]
                else:
                    continue
                for dotted, name in targets:
                    answers = self.module_of(dotted)
                    if answers not in (None, asks):
                        found.append(Arrow(asks, answers, name.rpartition(".")[2]))
        return found

    def defined(self, room):
        """The private names that the modules of a room define: functions, classes, attributes, slots."""
        names = set()
        for module, tree in self.trees.items():
            if room_of(module) != room:
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    names.add(node.name)
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    names.add(node.id)
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    names.add(node.attr)
        return {name for name in names if is_private(name)}


def room_of(module):
    """The room of a module: a lab's is its own, "labs.list_queue"."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "labs" else parts[0]


def is_private(name):
    return name.startswith("_") and not name.endswith("_")  # not __init__, nor _repr_html_


def rank(room):
    return ORDER.index(room.partition(".")[0])


def is_lab(house, room):
    """Whether a folder of labs/ is a lab; those whose docstring has no number serve several."""
    return (ast.get_docstring(house.trees[room]) or "")[:1].isdigit()


def refused(house):
    """The arrows that the plan does not have."""
    found = []
    for arrow in house.arrows:
        asks, answers = room_of(arrow.asks), room_of(arrow.answers)
        if asks == answers:
            continue
        if asks.startswith("labs.") and answers.startswith("labs."):
            allowed = is_lab(house, asks) and not is_lab(house, answers)
        else:
            allowed = rank(answers) < rank(asks)
        if not allowed or answers not in TAKEN_HOME.get(asks, {answers}):
            found.append(str(arrow))
    return found


def circle(house, of=lambda module: module):
    """The modules, or what `of` makes of them, that import each other in a ring; [] for none."""
    graph = defaultdict(set)
    for arrow in house.arrows:
        if of(arrow.asks) != of(arrow.answers):
            graph[of(arrow.asks)].add(of(arrow.answers))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


OF_NAMEDTUPLES = {"_asdict", "_fields", "_make", "_replace"}  # public, in spite of their names


def reached_through(house):
    """Private names that are imported, or used as attributes in a room that does not define them."""
    found = [str(arrow) for arrow in house.arrows if is_private(arrow.name)]
    rooms = {room_of(module) for module in house.trees}
    private = {room: house.defined(room) for room in rooms}
    for module, tree in house.trees.items():
        own = private[room_of(module)]
        others = set().union(*(private[room] for room in rooms - {room_of(module)}))
        used = {
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in others - own - OF_NAMEDTUPLES
        }
        found += [f"{module} uses {one}" for one in sorted(used)]
    return found


def too_large(house):
    """Folders with more modules than a reader can hold in the head; the face is not counted."""
    sizes = defaultdict(int)
    for path in house.paths.values():
        sizes[path.parent] += path.name != "__init__.py"
    return [f"{one.name} has {size}" for one, size in sizes.items() if size > MOST_MODULES]


def namesakes(house):
    """Packages that share their name with a function."""
    packages = {path.parent.name for path in house.paths.values() if path.name == "__init__.py"}
    return [
        f"{module}.{node.name}"
        for module, tree in house.trees.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in packages
    ]


@pytest.fixture(scope="module")
def house():
    return House(ROOT)


def test_every_room_is_in_the_plan(house):
    """A new room needs a place in the order."""
    assert {room_of(module).partition(".")[0] for module in house.trees} <= {*ORDER}


def test_arrows_go_one_way(house):
    """A module imports only from rooms above its own, and a lab from no other lab."""
    assert {*refused(house)} <= STILL_THERE


def test_no_circles(house):
    """Neither between rooms nor between the modules inside one."""
    assert circle(house) == []
    among_rooms = copy.copy(house)
    among_rooms.arrows = [one for one in house.arrows if str(one) not in STILL_THERE]
    assert circle(among_rooms, of=room_of) == []


def test_private_names_stay_at_home(house):
    """Nobody imports a private name, or uses one of another room as an attribute."""
    assert {*reached_through(house)} <= STILL_THERE


def test_rooms_are_small(house):
    """No room has more than a dozen modules."""
    assert {*too_large(house)} <= STILL_THERE


def test_packages_and_functions_have_names_of_their_own(house):
    """`labsupport.course` cannot have a function `labs` while there is a package `labs`."""
    assert namesakes(house) == []


@pytest.mark.parametrize("module", ["labsupport", "labsupport.explorer", "labsupport.exploration"])
def test_nothing_heavy_is_loaded_for_the_explorer(module):
    """Whoever imports the explorer waits for none of JupyterLab's packages."""
    ask = f"import {module}, sys; print(*(name.partition('.')[0] for name in sys.modules))"
    python = [sys.executable, "-c", ask]
    loaded = subprocess.run(python, cwd=ROOT.parent, capture_output=True, text=True, check=True)
    heavy = {"IPython", "cloudpickle", "hypothesis", "ipywidgets", "jupyter_core", "matplotlib"}
    heavy |= {"jupyterlab", "multiprocessing", "numpy", "pandas"}
    assert "labsupport" in loaded.stdout.split()
    assert not heavy & {*loaded.stdout.split()}


class TestTheTestItself:
    """Each rule finds what breaks it, in a small house."""

    @pytest.fixture
    def build(self, tmp_path):
        def built(**files):
            root = tmp_path / "labsupport"
            for name, text in files.items():
                path = root.joinpath(*name.split("__")).with_suffix(".py")
                path.parent.mkdir(parents=True, exist_ok=True)
                (path.parent / "__init__.py").touch()
                path.write_text(text)
            (root / "__init__.py").touch()
            return House(root)

        return built

    @pytest.mark.parametrize(
        "text",
        [
            "from labsupport.charts import style",
            "def late():\n    from labsupport.charts.style import Size",
            "if TYPE_CHECKING:\n    import labsupport.charts",
            "from labsupport import charts",
            "from labsupport import explore",
        ],
    )
    def test_an_arrow_up(self, build, text):
        (arrow,) = refused(build(servers__embedded=text, charts__style="class Size: ..."))
        assert arrow.startswith("servers.embedded imports ")

    def test_an_arrow_down_and_the_face(self, build):
        text = "from labsupport.charts.style import Size"
        house = build(experiments__stage=text, charts__style="class Size: ...")
        house.paths["labsupport"].write_text("from labsupport.experiments.stage import Stage")
        assert refused(House(house.paths["labsupport"].parent)) == []

    def test_explorer_is_taken_home(self, build):
        house = build(explorer__entry="import labsupport.servers", servers__embedded="")
        assert refused(house) == ["explorer.entry imports servers from servers"]

    def test_a_lab_from_another(self, build):
        shared = "from labsupport.labs.queues.clients import Worker"
        house = build(labs__streams__exercises=shared, labs__queues__clients="")
        assert len(refused(house)) == 1
        house.paths["labs.streams"].write_text('"""11 Streams: jobs that stay pending."""')
        assert refused(House(house.paths["labsupport"].parent)) == []

    def test_a_circle(self, build):
        house = build(
            charts__live="from labsupport.charts.style import Size",
            charts__style="if TYPE_CHECKING:\n    from labsupport.charts import live",
        )
        assert set(circle(house)) == {"charts.live", "charts.style"}
        assert circle(house, of=room_of) == []

    def test_a_private_name(self, build):
        house = build(
            database__session="class Session:\n    def __init__(self): self._undo = 1",
            database__shop="def shop(session): return session._undo",
            labs__streams__clients="def look(session): return session._undo",
            labs__streams__exercises="from labsupport.labs.streams.clients import _look",
        )
        assert reached_through(house) == [
            "labs.streams.exercises imports _look from labs.streams.clients",
            "labs.streams.clients uses session._undo",
        ]

    def test_a_crowd_and_a_namesake(self, build):
        house = build(**{f"charts__chart_{n}": "" for n in range(13)}, course="def charts(): ...")
        assert too_large(house) == ["charts has 13"]
        assert namesakes(house) == ["course.charts"]
