"""One order run again to its end, with what there is after each step."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from labsupport.explorer.moves.search import Ending, Search
from labsupport.explorer.names import Names
from labsupport.explorer.operations import Move, tables_named
from labsupport.explorer.report import Moment, Rerun, Step

__all__ = ["run_again", "tables_of"]

_START = Step("", "start", "")


def tables_of(steps: Iterable[Step]) -> list[str]:
    """The tables that statements on the database that is handed out name."""
    found: set[str] = set()
    for step in steps:
        if step.store == "database" and not step.own:
            found |= tables_named(step.label)
    return sorted(name for name in found if re.fullmatch(r"\w+", name))


def run_again(
    search: Search, moves: Iterable[Move], tables: Sequence[str], *, looks: bool = True
) -> Rerun:
    """Run one order and judge it; call it while exploring.

    Args:
        search: of the exploration whose order it is.
        moves: the order.
        tables: those whose rows are kept for each step.
        looks: keep what there is after each step; where nobody asks, that would be most of the work.
    """
    system, adversary = search.system, search.adversary
    states: list[tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]] = []

    def look() -> None:
        states.append((system.contents(), system.rows(tables)))

    try:
        ending, made = search.rerun(moves, look if looks else lambda: None)
        checker = search.checker.anew()
        if ending is Ending.STUCK:
            checker.stuck(adversary.stuck, adversary.trace, made, False)
        elif ending is Ending.COMPLETE:
            checker.check(adversary.clients, adversary.trace, made, False)
        names = search.checker.names()
        steps = [_START, *search.checker.steps(adversary.trace, names)] if looks else []
    finally:
        adversary.end()
    moments = tuple(
        Moment(step, _named(redis, names), rows)
        for step, (redis, rows) in zip(steps, states, strict=True)
    )
    finding = next(iter(checker.findings.values()), None)
    return Rerun(moments, tuple(made), finding)


def _named(value: Any, names: Names) -> Any:
    """Contents with their tokens named as the steps have them."""
    if isinstance(value, dict):
        return {names.of(key): _named(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_named(one, names) for one in value]
    return names.of(value) if isinstance(value, str) else value
