"""Times to live that end: which there are, by the names that keys have in this run."""

from collections.abc import Sequence

from labsupport.errors import NotDeterministicError
from labsupport.explorer.moves.stage import Stage
from labsupport.explorer.names import Names
from labsupport.explorer.operations import RANDOM, Move, Taken, glob_matches

__all__ = ["Expiries"]


class Expiries:
    """Lets keys, and fields of hashes, expire that have a time to live.

    Args:
        stage: whose steps have made them.
        patterns: of the keys that may expire.

    Attributes:
        unmatched: the patterns that nothing with a time to live has matched in any run.
    """

    def __init__(self, stage: Stage, patterns: Sequence[str]) -> None:
        self._stage = stage
        self._patterns = patterns
        self.unmatched = list(patterns)
        self.begin()

    def begin(self) -> None:
        """Another run begins."""
        self._names = Names()
        self._keys: dict[str, list[str]] = {}  # what may expire, by the name in this run
        self._labelled = 0  # of the moves of this run, by `_names`

    def possible(self) -> list[str]:
        """The keys, and fields of hashes, that may expire, by the names that they have in this run."""
        if not self._patterns:
            return []
        found = self._stage.system.expirable(self._patterns)
        if any(RANDOM.search(part) for one in found for part in one):
            self._name_what_came()
        for key, *_ in found if self.unmatched else ():
            self.unmatched = [one for one in self.unmatched if not glob_matches(one, key)]
        self._keys = {}
        for one in found:
            name = " of ".join(map(self._names.of, reversed(one)))
            while name in self._keys:  # another that is shown alike
                name += "′"
            self._keys[name] = one
        return list(self._keys)

    def _name_what_came(self) -> None:
        """Name what is random in the order in which it came."""
        for taken in self._stage.trace[self._labelled :]:
            if taken.operation is not None:
                if taken.move.kind in {"step", "lose"}:
                    self._names.reply(taken.operation)
                self._names.label(taken.operation)
        self._labelled = len(self._stage.trace)

    def expire(self, move: Move) -> None:
        """Let the time to live end that the move names."""
        self._stage.trace.append(Taken(move, None, move.who))
        key = self._keys.get(move.who)
        if key is None:
            raise NotDeterministicError(
                f"{move.who} expired by itself while the orders were explored.",
                "Reset in `given` what the functions remember between runs.",
            )
        self._stage.system.expire(*key)
