"""Fixtures for pytest: a Redis of the tests' own, and the explorer. They do nothing until asked for.

pytest finds them through the entry point `labsupport` of the installed package; in a checkout, with
`-p labsupport.fixtures`.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from labsupport.explorer import Report
    from labsupport.servers import Server

__all__ = ["make_explorer", "redis_server"]


@pytest.fixture(scope="session")
def redis_server() -> "Iterator[Server]":
    """A real Redis of this test process's own, on a unix socket: `.url`, `.client()`."""
    from labsupport.servers import start_server

    with start_server() as server:
        yield server


@pytest.fixture(name="explorer")
def make_explorer() -> "Callable[..., Report]":
    """`explore`, and a report that does not hold fails the test at once, with the whole schedule.

    To look at a report that is broken, call `labsupport.explore` itself.
    """
    from labsupport.exploration import explore

    def explored(*args: Any, **options: Any) -> "Report":
        __tracebackhide__ = True
        return explore(*args, **options).check()

    return explored
