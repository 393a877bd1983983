"""The explorer at home in the lab: on the lab's Redis and shop, with reports that draw themselves."""

import functools
from typing import Any

from labsupport import explorer
from labsupport.exploration.report import ShownReport
from labsupport.exploration.testbed import close_testbed, open_system

__all__ = ["ShownReport", "close_testbed", "explore", "open_system"]


@functools.wraps(explorer.explore)
def explore(*args: Any, **options: Any) -> ShownReport:
    """The explorer's `explore`, on the lab's own server and shop."""
    options.setdefault("system", open_system())
    return ShownReport.of(explorer.explore(*args, **options))
