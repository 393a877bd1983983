"""The database session that a client under exploration is handed."""

from collections.abc import Callable
from typing import Any

from labsupport.database import Database
from labsupport.errors import DatabaseBusyError
from labsupport.explore.actor import Actor
from labsupport.explore.operations import Operation

__all__ = ["SteppedDatabase"]


class SteppedDatabase(Database):
    """A database session, each of whose statements, and each commit, is a step."""

    actor: Actor

    def _statement(self, sql: str, params: dict[str, Any]) -> Any:
        operation = Operation("sql", ((sql, params),), transaction="inside" * self._inside)
        while True:
            self.actor.gate(operation)
            try:
                result = super()._statement(sql, params)
            except DatabaseBusyError:  # a lock is not free: the step was not taken
                self.actor.busy = True
                continue
            except Exception as error:
                self.actor.took(operation, error)
                raise
            self.actor.took(operation, result)
            return result

    def _commit(self) -> None:
        self._end("COMMIT", super()._commit)

    def _rollback(self) -> None:
        self._end("ROLLBACK", super()._rollback)

    def drop(self) -> None:
        """What the database does for a client that is gone."""
        super()._rollback()

    def _end(self, sql: str, end: Callable[[], None]) -> None:
        operation = Operation("sql", ((sql, {}),), transaction="inside")
        self.actor.gate(operation)
        end()
        self.actor.took(operation, None)
