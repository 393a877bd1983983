"""`datetime` stays the class that it is, for the code and for libraries, and asks the explorer's clock."""

import copy
import ctypes
import datetime
import gc
import json
import pickle
import sys
import threading
import time

import pytest

from labsupport import explore
from labsupport.errors import NotSteppableError
from labsupport.explorer.clock import START

MODELS = """
from datetime import datetime
import dataclasses
import functools

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Model(BaseModel):
    at: datetime


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]


@dataclasses.dataclass
class Note:
    at: datetime = dataclasses.field(default_factory=datetime.now)


class Moment(datetime):
    pass


@functools.singledispatch
def name(thing):
    return "?"


@name.register
def _(thing: datetime):
    return "a moment"
"""


def client_of(look):
    """A client that writes down what `look` finds, and an invariant that all of it was right."""

    def client(redis, db):
        redis.ping()
        redis.set("found", json.dumps(look()))

    return client


def check(look):
    report = explore(
        {"a": client_of(look)}, invariant=lambda redis, db: all(json.loads(redis.get("found")))
    )
    report.check()


def test_it_is_the_class_itself():
    """In exact comparisons, in tables, in patterns, for pickle."""

    def look():
        now = datetime.datetime.now()
        match now:
            case datetime.datetime(year=year):
                pass
        return [
            year == 2100,
            type(now) is datetime.datetime,
            {datetime.datetime: True}.get(type(now)),
            issubclass(type(now), datetime.date),
            pickle.loads(pickle.dumps(now)) == copy.deepcopy(now) == now,
            datetime.datetime.now(datetime.UTC).year == 2100,
            datetime.datetime.utcnow().year == datetime.datetime.today().year == 2100,
            datetime.date.today().year == now.today().year == 2100,
        ]

    check(look)


def test_models_that_a_client_imports(tmp_path, monkeypatch):
    """A module that is imported only in the exploration derives its classes as ever."""
    (tmp_path / "models_of_a_client.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)

    def look():
        import models_of_a_client as models

        now = datetime.datetime.now()
        return [
            models.Model(at=now).at.year == 2100,
            str(models.Row.__table__.c.at.type) == "DATETIME",
            models.Note().at.year == 2100,
            models.Moment(2020, 1, 1).year == 2020,
            type(models.Moment.now()) is models.Moment,
            models.name(now) == "a moment",
        ]

    check(look)
    sys.modules.pop("models_of_a_client")


def test_elsewhere_it_is_the_machines():
    """Another thread reads the present meanwhile, and afterwards all is as it was."""
    before = vars(datetime.datetime)["now"]
    seen, go, over = [], threading.Event(), threading.Event()

    def reads():
        go.wait()
        seen.append(datetime.datetime.now(datetime.UTC).year)
        over.set()

    thread = threading.Thread(target=reads)
    thread.start()

    def given(redis, db):
        go.set()
        over.wait(10)

    explore({"a": lambda r, d: r.ping()}, given=given, invariant=lambda r, d: True).check()
    thread.join()
    assert 2020 < seen[0] < 2100
    assert vars(datetime.datetime)["now"] is before
    with pytest.raises(TypeError):
        datetime.datetime.now(1)


class _Frozen(datetime.date):
    pass


@pytest.mark.parametrize(
    ("module", "name", "other"),
    [
        (time, "monotonic", lambda: 1.0),
        (time, "time", 1.0),
        (datetime, "date", _Frozen),
        (datetime, "datetime", lambda: None),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_clock_of_the_tests_own(monkeypatch, module, name, other):
    """One frozen clock beside the explorer's would not agree: it is refused, with the remedy."""
    monkeypatch.setattr(module, name, other)
    with pytest.raises(NotSteppableError, match=rf"{module.__name__}\.{name} is not Python's own"):
        explore({"ada": lambda redis, db: redis.incr("n")}, invariant=lambda redis, db: True)


def test_a_mocked_sleep_does_no_harm(monkeypatch):
    """What a test lets take no time takes the explorer's."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    check(lambda: [(time.sleep(1), time.time())[1] == START + 1])


def test_a_day_that_was_set_in_the_class_itself():
    """Some freeze the functions of C: `today`, too, is the explorer's, and afterwards what it was."""
    (kept,) = gc.get_referents(vars(datetime.date))

    def put(today):
        kept["today"] = today
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.date))

    usual = kept["today"]
    put(classmethod(lambda cls: cls(2024, 2, 29)))
    try:
        check(lambda: [day.today().year == 2100 for day in (datetime.date, datetime.datetime)])
        assert datetime.date.today().day == 29
    finally:
        put(usual)
