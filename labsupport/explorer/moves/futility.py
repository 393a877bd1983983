"""Whether anything still comes of what is done, or all repeat the same in vain."""

from collections import Counter

from labsupport.explorer.clients import loops
from labsupport.explorer.moves.stage import PASS, WAIT, Stage
from labsupport.explorer.operations import Move, Operation

__all__ = ["Futility"]

_MOST_VAIN = 100  # pauses in a row in which nothing came of anything: there are years among them
_SEEN_VAIN = 24  # moves in a row like that, after which the same are not tried once more


class Futility:
    """The moves in a row of which nothing came.

    Args:
        stage: whose moves they are.

    Attributes:
        since: how many moves there were before them.
        counting_at: sites of loops that have not come to their end, and may.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._system = stage.system
        self.since = 0
        self.counting_at: set[int] = set()
        self._vain = Counter[str]()  # pauses, and whose steps, since then
        self._vain_at = set[int]()  # where in their code these stand

    @property
    def pauses(self) -> int:
        """How often time has passed in vain."""
        return self._vain[PASS.who]

    @property
    def seen(self) -> bool:
        """Whether all repeat what they did in vain, and have done so often enough."""
        return self._vain.total() >= _SEEN_VAIN and self.all_in_vain and self._all_repeat

    @property
    def counting(self) -> str:
        """Who makes very many attempts in vain, and counts them: it may come to an end; empty if none."""
        live = [one for one in self._stage.stuck if one.pending is not None]
        return next((a.name for a in live if a.pending and a.pending.site in self.counting_at), "")

    @property
    def hopeless(self) -> bool:
        """Whether time passes, and nothing has come of it for long: all repeat the same in vain."""
        if self._vain[PASS.who] < _MOST_VAIN or any(one.punctual for one in self._stage.clients):
            return False
        counts = any(
            loops.counting(one.whole.counted or {}) for one in self._stage.actors if one.live
        )
        return not counts and self.all_in_vain

    @property
    def all_in_vain(self) -> bool:
        """Whether all who can move, or sleep, have repeated something in vain."""
        live = [one for one in self._stage.actors if one.live]
        moving = [one for one in live if one.ready or one.wake_us or one.until_us]
        return all(self._vain[one.name] > 1 for one in moving)

    @property
    def _all_repeat(self) -> bool:
        """Whether nobody who can move is about to do what was not done in vain: a loop may be over."""
        coming = (one.pending for one in self._stage.actors if one.live and one.ready)
        return all(one is None or one.site in self._vain_at for one in coming)

    def hope(self, since: int) -> None:
        """Something has come of a move, or may."""
        self.since = since
        self._vain.clear()
        self._vain_at.clear()
        for client in self._stage.clients:
            client.counted = None

    def note(self, move: Move, operation: Operation | None, ends: int) -> None:
        """Note that a move has changed nothing but the time, if it has not."""
        idle = move in (PASS, WAIT) and ends == len(self._system.deadlines_us())
        again = (
            operation is not None
            and operation.site
            and move.kind in {"step", "timeout"}
            and self._stage.named[move.who].live
            and (self._stage.named[move.who].waiting is not None or self._system.no_op(operation))
        )
        if not idle and not again:
            self.hope(len(self._stage.trace))
        self._vain[move.who] += 1
        if operation is not None and again:
            self._vain_at.add(operation.site)
        if self._vain[PASS.who] == _MOST_VAIN // 2:
            for client in self._stage.clients:
                client.counted = {}
