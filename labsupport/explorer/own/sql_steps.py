"""The statements of a client under exploration: each one, and each commit, is a step."""

import re
from collections.abc import Callable
from typing import Any

from labsupport.errors import DatabaseBusyError
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.operations import Operation, looks_twice

__all__ = ["SqlSteps"]

_AT_ONCE = re.compile(r"\bnowait\b", re.IGNORECASE)


class SqlSteps:
    """What a session calls in place of each statement: it stops first, until it may go on.

    Attributes:
        actor: whose statements they are.
    """

    actor: Actor

    def __call__(
        self, sql: str, params: dict[str, Any], inside: bool, run: Callable[[], Any]
    ) -> Any:
        operation = Operation("sql", ((sql, params),), transaction="inside" if inside else "")
        while True:
            self.actor.gate(operation)
            self.actor.trusted += 1  # the driver is the explorer's
            try:
                result = run()
            except DatabaseBusyError as error:  # a lock is not free: the step was not taken
                if _AT_ONCE.search(sql):
                    operation.unchanged = True
                    self.actor.took(operation, error)
                    raise
                self.actor.busy = True
                on_postgresql = hasattr(error.__cause__, "sqlstate")
                self.actor.whole.looked_anew |= on_postgresql and looks_twice(sql)
                continue
            except Exception as error:
                self.actor.took(operation, error)
                raise
            finally:
                self.actor.trusted -= 1
            self.actor.took(operation, result)
            self.actor.arrival()
            return result
