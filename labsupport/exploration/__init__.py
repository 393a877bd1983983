"""The explorer at home in the lab: on the lab's Redis and shop, with reports that draw themselves."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from labsupport import explorer
from labsupport.errors import Interrupted, LabError, own_lines, require_call
from labsupport.exploration.report import ShownReport
from labsupport.exploration.testbed import close_testbed, open_system
from labsupport.prints import capped

__all__ = ["ShownReport", "by_default", "close_testbed", "explore", "open_system"]

_DEFAULTS: dict[str, Any] = {}
_FORM = 'explore({"ada": lambda redis, db: …, "bob": lambda redis, db: …}, invariant=lambda redis, db: …)'


@functools.wraps(explorer.explore)
def explore(*args: Any, **options: Any) -> ShownReport:
    """The explorer's `explore`, on the lab's own server and shop."""
    __tracebackhide__ = True  # pytest then shows the test's own lines
    try:
        require_call(explorer.explore, args, {"system": None, **options}, form=_FORM)
        options = {"system": open_system(), **_DEFAULTS, **options}
        with capped():
            return ShownReport.of(explorer.explore(*args, **options))
    except (Interrupted, LabError) as error:
        raise error.with_traceback(own_lines(error)) from error.__cause__


@contextmanager
def by_default(**options: Any) -> Iterator[None]:
    """Give each `explore` in this block these options, where the call does not say otherwise."""
    before = dict(_DEFAULTS)
    _DEFAULTS.update(options)
    try:
        yield
    finally:
        _DEFAULTS.clear()
        _DEFAULTS.update(before)
