"""What each notebook's card and its page "Run it" promise: minutes, defaults, metrics, three questions."""

import re
from inspect import signature
from pathlib import Path

import nbformat
import pytest
from redis import Redis
from redis.cache import CacheConfig
from redis.lock import Lock

from labsupport.servers import start_server


def _time(path):
    """What the card says of the time; a new lab's has no minutes yet."""
    card = nbformat.read(path, as_version=4).cells[0].source
    return re.findall(r"\d+", card.partition("**Time** |")[2].partition("|")[0])


FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = [path for path in sorted(FOLDER.glob("[0-9]*.ipynb")) if _time(path)]
PAGES = [path for path in NOTEBOOKS if path.name[:2] not in {"00", "15"}]  # these run no Redis

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


def _page(path):
    """The text of "Run it"."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return text.partition("\n## Run it\n")[2].partition("\n## ")[0]


def _rows(path, first):
    """The rows of the page's table whose heading begins with this word, as lists of cells."""
    table = re.search(rf"^\| {first} \|.*\n(?:\|.*\n?)+", _page(path), re.MULTILINE)
    assert table, f"no table of {first}"
    lines = table.group().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# Settings


@pytest.fixture(scope="module")
def server():
    with start_server(config={"appendonly": "yes"}) as server, server.replica() as replica:
        yield server, replica


def _spelt(value):
    """How a page may write a number or a word of the configuration."""
    number = value.isdigit() and f"{int(value):,}"
    return {value, number or value} | ({"none"} if value == "0" else set())


def _names(cell, known):
    """The settings in a cell; `-max-lag` behind `min-replicas-to-write` is short for the whole name."""
    last = ""
    for name in re.findall(r"`([\w-]+)", cell):
        parts = last.split("-")
        whole = ["-".join(parts[:at]) + name for at in range(len(parts), 0, -1)]
        last = next((one for one in whole if one in known), name) if name[0] == "-" else name
        if last in known:
            yield last


@every_page
def test_a_setting_of_the_server_has_this_default(path, server):
    """What stands under "default" is what the lab's own Redis says."""
    with server[0].client() as redis:
        known = redis.config_get("*")
    known["appendonly"] = "no"  # it is on for the metrics
    for cell, default, _ in _rows(path, "setting"):
        if "redis-py" in cell:
            continue
        for name in _names(cell, known):
            found = default.replace("`", "")
            if name == "client-output-buffer-limit":
                assert "pubsub 33554432 8388608 60" in known[name]
                assert found == "32 MB, or 8 MB for 60 s"
            else:
                words = _spelt(known[name])
                assert any(re.search(rf"(?<![\w,.]){one}(?!\w)", found) for one in words), name


def _defaults():
    """redis-py's, as a page writes them."""
    redis, quiet = Redis(), Redis.from_url("redis://127.0.0.1")
    connection, other = (one.connection_pool.make_connection() for one in (redis, quiet))
    lock, copies = signature(Lock).parameters, signature(CacheConfig).parameters
    assert other.retry.get_retries() == 0
    return {
        "socket_timeout": f"{connection.socket_timeout} s",
        "socket_connect_timeout": f"{connection.socket_connect_timeout} s",
        "health_check_interval": f"{connection.health_check_interval}",
        "retry": {10: "ten"}[connection.retry.get_retries()],
        "max_connections": f"{redis.connection_pool.max_connections}",
        "timeout": f"`{lock['timeout'].default}`",
        "blocking_timeout": f"`{lock['blocking_timeout'].default}`",
        "sleep": f"{lock['sleep'].default} s",
        "CacheConfig": f"{copies['max_size'].default:,} keys",
    }


@every_page
def test_a_setting_of_the_client_has_this_default(path):
    """What stands under "default" is what redis-py's own clients, locks and copies have."""
    known = _defaults()
    for cell, default, _ in _rows(path, "setting"):
        if "redis-py" in cell or "`blocking_timeout`" in cell:
            for name in _names(cell, known):
                assert known[name] in default, f"{name}: {default}"


# Metrics


@every_page
def test_four_metrics_each_with_a_command_and_an_alert(path):
    """Whoever runs it is told what to watch, how to ask for it, and when to get up."""
    rows = _rows(path, "watch")
    assert len(rows) >= 4
    assert all(len(row) == 3 and all(row) for row in rows)


@every_page
def test_what_a_metric_asks_for_is_there(path, server):
    """Each command exists, and each field is in a section of INFO that the same row names."""
    own = {"FILL", "NUMSUB", "PLACE"}  # a script, a subcommand, a placeholder
    with server[0].client() as redis, server[1].client() as copy:
        redis.evalsha(redis.script_load("return redis.call('SET', 'key', 'value')"), 0)
        commands = {name.upper() for name in redis.command()} | own
        for _, ask, _ in _rows(path, "watch"):
            assert set(re.findall(r"`([A-Z]{3,})(?=[ `])", ask)) <= commands
            sections = re.findall(r"(?<!CLUSTER )INFO (\w+)", ask)
            infos = [one.info(section) for one in (redis, copy) for section in sections]
            fields = {name for info in infos for name in info}
            fields |= {name for info in infos for one in info.values() for name in _inside(one)}
            asked = set(re.findall(r"`([a-z_]+)`", ask)) if sections else set()
            assert asked <= fields


@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.name)
def test_the_last_rung_counts_what_the_page_names(path):
    """Never by a +=: with a call to Redis behind it, it loses what others count meanwhile."""
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    counted = set(re.findall(r"\bmetrics\.update\((\w+)=", code))
    named = set(re.findall(r'`metrics\["(\w+)"\]', _page(path)))
    assert counted
    assert not re.search(r"\bmetrics\[", code)
    assert named == counted or path not in PAGES


def _inside(value):
    return value if isinstance(value, dict) else ()


@every_page
def test_the_page_speaks_of_what_comes_later(path):
    """How long what is kept lives, what a cluster asks for, what a failover forgets, who may do it."""
    page = _page(path)
    words = ("TTL|timeout", r"\*\*Cluster|`cluster-", r"\*\*Failover|no failover", r"\*\*Security")
    for word in words:
        assert re.search(word, page), word


@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.name)
def test_three_questions_are_asked(path):
    """Each lab says how safe its last rung is, whether everybody is served, and what it costs."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for question in ("safe", "(progress|does it (make )?progress)", "(the )?costs?"):
        assert re.search(rf"\*\*{question}\b", text, re.IGNORECASE), question


# Minutes


def _seconds(cell):
    """A reader's time for a cell: 170 words a minute, 8 s a line of code, 36 s a figure."""
    if cell.cell_type == "markdown":
        text = re.sub(r"\]\([^)]*\)", "]", cell.source)
        return len(re.findall(r"[A-Za-z0-9`][\w'’`.]*", text)) * 60 / 170
    lines = [line for line in cell.source.splitlines() if line.strip() and line[0] != "#"]
    return 8 * len(lines) + 36 * sum("image/png" in out.get("data", {}) for out in cell.outputs)


def _minutes(path):
    """The minutes of the core path and of the optional parts; neither has the exercises."""
    spent, part = {"core": 0.0, "optional": 0.0, "exercises": 0.0}, "core"
    for cell in nbformat.read(path, as_version=4).cells[2:]:
        heading = re.search(r"^##(#?) (.*)", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and heading:
            optional = "ptional" in heading.group(2)
            if part != "exercises" and not (part == "core" and heading.group(1) and not optional):
                part = "optional" if optional else "core"
            if heading.group(2) == "Exercises":
                part = "exercises"
        spent[part] += _seconds(cell) / 60
    return spent["core"], spent["optional"]


@every_notebook
def test_the_card_tells_the_time_it_takes(path):
    """The card's minutes are within five of what its words, lines and figures take."""
    told = [int(number) for number in _time(path)]
    core, optional = _minutes(path)
    assert abs(told[0] - core) <= 5, f"core: {core:.0f}"
    assert abs((told[1] if len(told) > 2 else 0) - optional) <= 5, f"optional: {optional:.0f}"
