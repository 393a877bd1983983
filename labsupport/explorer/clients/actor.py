"""One client under exploration: the learner's function, which stops before each of its steps."""

import math
import random
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import CellType, CodeType, FrameType, FunctionType
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from labsupport.errors import LabError, NotSteppableError
from labsupport.explorer.clients.captured import OwnLocals
from labsupport.explorer.clients.draws import Chance, Few
from labsupport.explorer.clients.loops import Loops, forget_shown
from labsupport.explorer.clients.namespaces import installed
from labsupport.explorer.clients.seats import DatabaseSeat, RedisSeat, SharedLock
from labsupport.explorer.clock import Clock
from labsupport.explorer.operations import Move, Operation

__all__ = [
    "ENDS",
    "Actor",
    "CoroutineFoundError",
    "StepTimeout",
    "actor_here",
    "refusal",
]

_MAX_REFUSALS = 100
_LITTLE = 2**-20
_FEW_BITS = 20  # of chance, in a run: one in a million draws the same as another


def refusal(problem: str, remedy: str) -> NotSteppableError:
    """The error of what cannot be stepped, which ends the exploration whatever the code makes of it."""
    error = NotSteppableError(problem, remedy)
    actor = actor_here()
    if actor is not None:
        actor.whole.fault = actor.whole.fault or error
    return error


def actor_here() -> "Actor | None":
    """The client whose function is running; None outside of all."""
    here: Any = getcurrent()
    while here is not None:  # a library's greenlet belongs to the client that made it
        actor: Actor | None = getattr(here, "actor", None)
        if actor is not None:
            return actor
        here = here.parent
    return None


class StepTimeout(BaseException):
    """Raised inside a client that takes no step for too long."""


ENDS = (KeyboardInterrupt, GreenletExit, StepTimeout)
"""What is no error of the explored code's, though it is raised inside."""


class CoroutineFoundError(NotSteppableError):
    """A function that was taken for a plain one returns a coroutine."""


class Actor:
    """One client: the learner's function in a greenlet of its own, and the two connections it uses.

    Args:
        name: the client's name.
        function: called with (redis, db).
        redis: its own client of the server.
        db: its own session on the database.
        clock: of the exploration.
        no_op: tells of a step that was taken whether it changed nothing.
        whole: the client, of which this is one task; None when it is all.

    Attributes:
        whole: the client, of which this is all or one task.
        pending: the step that it is about to take.
        last: the step that it took last.
        steps: how many it took.
        returned: what the function returned.
        error: what it raised.
        waiting: what it is blocked on: a connection, its number, and when its timeout ends, or 0.
        until_us: when that timeout is over, while time may pass.
        wake_us: when its sleep ends, while time may pass; None when it is awake.
        looked: True when it has looked at a clock since its last step.
        late: it will stand still before it looks at a clock, until time has passed.
        standing: it does.
        losing: the reply of the step that is taken next will be lost.
        delayed: that reply will be on its way until the explorer lets it arrive.
        on_its_way: a reply is.
        haste: a sleep counts as so many: nobody else can move, so nothing else would happen.
        ends: moments on its clock before which no sleep counts as more than one.
        others: what ends the work of connections of its own, by their identity.
        counted: what it counts in its loop, by the place, while that is looked at.
        punctual: its sleeps take as long as they say, however many there are.
        asked: True once it has asked what time it is.
        asked_process: True once it has asked for the number of its process.
        gave_seed: True once it has called random.seed(…).
        seeded: what it draws from with the functions of `random` since then, in this run.
        drew_many: True when it has just drawn one of very many values.
        read_twice: True once it has asked, taken a step, and asked again.
        stepped: True once it has done more than begin.
        left_tasks: True once it has ended while a task of its own was at work.
        beats: True once a task of its own has repeated beside the others what is not in vain.
        looked_anew: True once a statement that waited was run with a view that is too new.
        trusted: above 0 while the explorer's own code opens a connection for it.
        connecting: True while SQLAlchemy makes a connection ready for it, which is no step.
        locals: what it keeps in `threading.local`.
        looks: how often it has drawn by chance, looked at a clock, and slept.
        waits_for: what it repeats for ever, in the first order.
        at_first: in the first order; False in all others.
        unordered: names what a frame goes through in an order that is no process's but this one's.
        ran: the functions of one's own that have led to its steps in that, by code and what it encloses.
        thread: what it is told that it runs in, once it has asked.
        asked_at_first: how often it has asked for what in that.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        redis: RedisSeat,
        db: DatabaseSeat,
        clock: Clock,
        no_op: Callable[[Operation], bool],
        whole: "Actor | None" = None,
    ) -> None:
        self.whole: Actor = whole or self
        self.name = name
        self.move = Move("step", name)
        self.function = function
        self.redis = redis
        self.db = db
        self.clock = clock
        self._no_op = no_op
        self._hub: greenlet | None = None
        self._greenlet: greenlet | None = None
        self._resting = False  # the greenlet waits for the next run
        self._skew = clock.skews.get(name, 0.0)
        self.may_lose = self.waits_to_begin = False
        self.shared_locks: Sequence[SharedLock] = ()
        self.unordered: Callable[[FrameType], str] = lambda frame: ""
        self.asked_at_first: Counter[str] = Counter()
        self.at_first = True
        self.waits_for: set[str] = set()
        self.ran: dict[tuple[CodeType, tuple[int, ...]], FunctionType] = {}
        self.counted: dict[int, list[Any]] | None = None
        self.punctual = False
        self.asked = self.asked_process = self.gave_seed = False
        self.looked_anew = self.stepped = self.left_tasks = self.beats = False
        self.read_twice = self.drew_many = False
        self.fault: LabError | None = None
        self.others: dict[int, Callable[[], object]] = {}
        self.locals = OwnLocals(())
        self.reset()

    @contextmanager
    def trusting(self) -> Iterator[None]:
        """Within this block what is done is the explorer's doing, or a check's, and no step."""
        self.trusted += 1
        try:
            yield
        finally:
            self.trusted -= 1

    def reset(self) -> None:
        """Back to the moment before the first step."""
        self.pending: Operation | None = None
        self.last: Operation | None = None
        self.returned: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.crashed = False
        self.busy = False
        self.steps = self.trusted = 0
        self.connecting = False
        self.losing = self.delayed = self.on_its_way = False
        self.haste = 1
        self.ends: tuple[float, ...] = ()
        self._slept = 0.0
        self.looks = 0, 0, 0
        # a client that repeats a step in vain is parked until something else has moved
        self.seen_moving()
        self.waiting: tuple[Any, int, int] | None = None
        self.until_us: int | None = None
        self.wake_us: int | None = None
        self.looked = self.late = self.standing = False
        self._read_after: Any = _NEVER  # the step after which it read the present
        self._refused = 0
        self._loops = Loops(self.whole, self._no_op, _BOTTOM, self.redis.state)
        self._chance: random.Random | None = None
        self.seeded: random.Random | None = None
        self._common: dict[str, random.Random] = {}
        self._few_bits = Counter[str]()  # that it, or a task of it, has drawn
        self.thread: threading.Thread | None = None
        self.locals.restart()
        self._drop_others()

    def seen_moving(self) -> None:
        """Something else has moved: what it repeats may be no longer in vain."""
        self.parked = False
        self.since = self.whole.monotonic()
        self.alone = 0  # how many steps it took since
        self.left = 0  # attempts, until it gives up; 0 when that is not known

    def start(self) -> None:
        """Run up to the first step."""
        if not self._resting:  # there is none, or it cannot be ended
            self._hub = getcurrent()
            self._greenlet = _ActorGreenlet(self, self._play)
        assert self._greenlet is not None
        self._resting = False
        self._greenlet.gr_context = None  # nor does a run know the context variables of another
        self._enter(self._greenlet.switch)

    def proceed(self) -> None:
        """Take the pending step, and run up to the next one."""
        assert self._greenlet is not None
        self._enter(self._greenlet.switch)

    def _enter(self, switch: Callable[..., Any], *error: type[BaseException]) -> None:
        self.clock.machine.resume()
        self.locals.swap()
        try:
            switch(*error)
        finally:
            self.locals.swap()

    @property
    def live(self) -> bool:
        """True while the function has not ended."""
        return not (self.done or self.crashed)

    @property
    def ready(self) -> bool:
        """True when its next step can be taken now."""
        if self.done or self.crashed or self.standing or self.on_its_way:
            return False
        return self.waiting is None and self.wake_us is None

    @property
    def running(self) -> bool:
        """True while its function is at work; may be asked from another thread."""
        mine = self._greenlet
        return mine is not None and bool(mine) and mine.gr_frame is None  # else it is suspended

    @property
    def here(self) -> bool:
        """True in the client's own function."""
        return getcurrent() is self._greenlet

    @property
    def at(self) -> Operation | None:
        """The step that it stands at: the one before it, or the last one."""
        return self.pending or self.last

    @property
    def running_as(self) -> str:
        """Its name, or that of the task that is at work."""
        return self.name

    @property
    def draws_as(self) -> str:
        """Whose draws they are: a task's that has not taken a step yet, too."""
        return self.name

    @property
    def stands_back(self) -> bool:
        """True while others stand for it: a client's tasks."""
        return False

    @property
    def timed(self) -> bool:
        """True while a timer of its event loop runs: it may end before a reply comes."""
        return False

    @property
    def stalled(self) -> bool:
        """True when it waits, and not for the explorer: a client whose tasks wait for one another."""
        return False

    def crash(self) -> None:
        """Drop the connections, as the system does for a process that died; no more code runs."""
        self.crashed = True
        self.waiting = self.until_us = self.wake_us = None
        self.redis.drop()
        self._drop_database()

    def end(self) -> None:
        """Unwind the function, so that it holds nothing; its `finally` blocks reach no server."""
        if self._greenlet is None or self._resting or self._greenlet.dead:
            return
        stuck = self.waiting is not None
        self.crashed = True
        self._enter(self._greenlet.throw, GreenletExit)
        if stuck:
            self.redis.drop()
        self._drop_database()

    def retire(self) -> None:
        """End the greenlet; the next run gets another."""
        if self._greenlet is not None and self._resting:
            self._greenlet.throw(GreenletExit)
        self._greenlet, self._resting = None, False

    # what its connections call

    def gate(self, operation: Operation) -> None:
        """Stop before a step until the explorer lets the client take it."""
        if getcurrent() is not self._greenlet:
            raise self._used_elsewhere()
        assert self._hub is not None
        if self.crashed:
            self._refused += 1
            if self._refused > _MAX_REFUSALS:  # it swallows every error, and goes on
                # for ever in a cycle: to collect a greenlet is to raise in it once more
                self._greenlet.itself = self._greenlet
                self._hub.switch()
            raise GreenletExit
        self.no_machine_time(operation)
        self.no_shared_lock()
        self.note_code()
        self.parked = self._loops.spins(operation, self.last, self.alone)
        self.pending = operation
        self._hub.switch()
        if self.crashed:
            raise GreenletExit

    def note_code(self) -> None:
        """In the first order, remember whose code leads to a step: a library may have called it."""
        if not self.whole.at_first:
            return
        frame: FrameType | None = sys._getframe(2)
        ran = self.whole.ran
        while frame is not None and frame.f_code is not _BOTTOM:
            code, space = frame.f_code, frame.f_globals
            if not installed(str(space.get("__name__"))):
                self.no_addresses(frame)
                held = frame.f_locals if code.co_freevars else {}
                at = code, tuple(id(held.get(name)) for name in code.co_freevars)
                if at not in ran:
                    cells = tuple(_cell(held, name) for name in code.co_freevars)
                    ran[at] = FunctionType(code, space, code.co_name, None, cells)
                forget_shown(frame, held)
            frame = frame.f_back

    def no_addresses(self, frame: FrameType) -> None:
        """Refuse a step within a loop over a set whose order no two processes have in common."""
        if name := self.whole.unordered(frame):
            self.whole.fault = self.whole.fault or NotSteppableError(
                f"The client {self.whole.name!r} goes through {name}, a set of objects in the order of "
                "their addresses: each process has another.",
                "Sort them, or keep them in a list or a dict.",
            )
            raise self.whole.fault

    def no_shared_lock(self) -> None:
        """Note who stops with a lock; one that another client would get as well is refused."""
        for lock in self.whole.shared_locks:
            lock.holder = (lock.holder or self.whole.name) if lock.held() else ""
            if lock.holder and lock.again:
                self.whole.fault = self.whole.fault or NotSteppableError(
                    f"The client {self.whole.name!r} lets others move while it has {lock.name}, a lock of "
                    "the process that its owner may take again.",
                    "The explorer runs all clients in one thread, which would own it: let each have one of "
                    "its own, as processes do, or keep the lock in Redis or in the database.",
                )
                raise self.whole.fault

    def no_machine_time(self, operation: Operation) -> None:
        """Refuse a step that names what the machine's clock has just shown."""
        shown = self.clock.machine.shows_in(part for args in operation.commands for part in args)
        if shown:
            self.whole.fault = self.whole.fault or NotSteppableError(
                f"The client {self.whole.name!r} sends {shown}: the machine's clock, which nobody holds.",
                "Let the function ask time.time() or datetime.now() where it needs the time; what was "
                "bound before (default_factory=datetime.now) and installed packages ask the machine.",
            )
            raise self.whole.fault

    def took(self, operation: Operation, reply: Any) -> None:
        """Note a step that was taken, and its reply."""
        operation.replies = [reply]
        self.last = operation
        self.alone += 1
        self.steps += 1
        self.whole.stepped = self.whole.stepped or operation.kind != "begin"

    def repeated(self, operation: Operation) -> bool:
        """True when it is another attempt at a step that was taken before."""
        return self._loops.repeated(operation)

    def loses(self) -> bool:
        """True, once, when the reply of the step that was taken is lost."""
        lost, self.losing = self.losing, False
        return lost

    def arrival(self) -> None:
        """Return when the reply of the step that was taken is there, if it is to come later."""
        if self.delayed:
            assert self._hub is not None
            self.delayed, self.on_its_way = False, True
            self._hub.switch()
            self.on_its_way = False
            if self.crashed:
                raise GreenletExit

    def block(self, operation: Operation, connection: Any, number: int, timeout: float) -> None:
        """Return when `connection`, the server's client `number`, has a reply, or after `timeout` s."""
        assert self._hub is not None
        self.last = operation
        self._wait_for(connection, number, timeout)
        self._hub.switch()
        if self.crashed:
            raise GreenletExit

    def _wait_for(self, connection: Any, number: int, timeout: float) -> None:
        ends = self.clock.now_us + round(timeout * 1e6) if timeout > 0 else 0
        self.waiting = (connection, number, ends)
        self.until_us = ends if ends and self.clock.passing else None

    def served(self) -> bool:
        """True when the reply that this client waits for is there or on its way."""
        if self.waiting is None:
            return False
        connection, number, _ = self.waiting
        while not connection.can_read(timeout=0):
            if self.redis.is_blocked(number):
                return False
        self.waiting = self.until_us = None
        return True

    def time_out(self) -> None:
        """Let the blocking command's timeout pass."""
        assert self.waiting is not None
        self.redis.unblock(self.waiting[1])
        self.waiting = self.until_us = None

    # what stands for its clock and its chance

    @property
    def chance(self) -> random.Random:
        """What the client draws from: the same draws in each run."""
        self.looks = self.looks[0] + 1, *self.looks[1:]
        if self._chance is None:  # to seed takes as long as a step
            self._chance = Chance(self.name, self.few)
        return self._chance

    def few(self, bits: int) -> random.Random | None:
        """What it draws few values from; None if so many bits are no small draw any more."""
        self.looks = self.looks[0] + 1, *self.looks[1:]
        who = self.draws_as
        self.whole.drew_many = self._few_bits[who] + bits > _FEW_BITS
        if self.whole.drew_many:
            return None
        self._few_bits[who] += bits
        if who not in self._common:
            self._common[who] = Few(self.clock.shift(self.clock.drew_few, who))
        return self._common[who]

    def fraction(self, drawn: float) -> float:
        """What a fraction is that it draws: no two clients the same, but all very little, or nearly 1."""
        self.clock.drew_fraction = True
        if not self.clock.fractions:
            return drawn
        return drawn * _LITTLE if self.clock.fractions == "small" else 1 - drawn * _LITTLE

    def time(self, *, asked: bool = True) -> float:
        """The client's own clock, in seconds since 1970."""
        if asked:
            self.look()
            self.note_present()
        return self.clock.now_us / 1e6 + self._skew + self._slept

    def look(self) -> None:
        """It looks at a clock; not before time has passed, if the adversary has it be late."""
        self.looked = True
        self.looks = self.looks[0], self.looks[1] + 1, self.looks[2]
        if self.late and not self.crashed:
            self.late = False
            self.stand()

    def stand(self) -> None:
        """Stand still until time has passed."""
        self.no_shared_lock()
        assert self._hub is not None
        self.standing = True
        self._hub.switch()
        self.standing = False
        if self.crashed:
            raise GreenletExit

    def note_present(self) -> None:
        """It reads what time it is."""
        if self._read_after is _NEVER:
            self._read_after = self.last
            self.asked = True
        elif self._read_after is not self.last:
            self.read_twice = True

    def monotonic(self, *, asked: bool = False) -> float:
        """Seconds since some moment: finer than the time since 1970, which a float holds to 0.5 µs."""
        if asked:
            self.look()
        return self.clock.elapsed() + self._slept

    def sleep(self, seconds: float) -> None:
        """Sleep without taking time: until the explorer lets time pass, or on the client's own clock."""
        seconds = float(seconds)
        self.looks = *self.looks[:2], self.looks[2] + 1
        if self.crashed or not self.passes_in(seconds):
            self._slept += self.lasts(seconds)
            return
        assert self._hub is not None
        if seconds > 0:
            self.no_shared_lock()
            self.wakes_in(seconds)
            self._hub.switch()
            if self.crashed:
                raise GreenletExit

    def lasts(self, seconds: float) -> float:
        """How long a sleep counts: longer in haste, but where something ends it is as long as it says."""
        if self.haste == 1:
            return seconds
        now = self.monotonic()
        left = min((end - now for end in self.ends if end > now), default=math.inf)
        return max(seconds, min(seconds * self.haste, left - 2 * seconds))

    def passes_in(self, seconds: float) -> bool:
        """Whether a sleep takes time for all, and not only on the client's own clock."""
        if self.clock.passing or seconds <= 0:
            return self.clock.passing
        once = seconds if self.haste == 1 else 0.0  # many short ones are no long one
        with self.trusting():
            return self.clock.outlasts(self.name, self._slept + seconds * self.haste, once)

    @property
    def divided(self) -> bool:
        """Whether it has several tasks that are not done: one may be before the others have slept."""
        return False

    @property
    def slept_us(self) -> int:
        """For how long it has slept while time stood still for the others, in microseconds."""
        return round(self._slept * 1e6)

    def wait(self, microseconds: int) -> None:
        """It has waited while time stood still for the others."""
        self._slept += microseconds / 1e6

    def catch_up(self, microseconds: int) -> None:
        """So much time has passed for all."""
        self._slept = max(self._slept - microseconds / 1e6, 0.0)

    def wakes_in(self, seconds: float) -> None:
        """It sleeps until so much time has passed for all; what it has slept alone has passed, too."""
        self.wake_us = self.clock.now_us + max(round((self._slept + seconds) * 1e6), 1)
        self._slept = 0.0

    def _used_elsewhere(self) -> BaseException:
        fault = NotSteppableError(
            f"What the client {self.name!r} was handed was used outside its function.",
            "Use a client's own redis and db in its function; make objects that keep them there, too.",
        )
        self.fault = fault
        other = actor_here()
        if other is not None:
            other.fault = fault
        if threading.current_thread().ident == _thread_of(self._hub):
            return fault
        return SystemExit()  # ends a thread silently; the explorer reports the fault

    def _drop_database(self) -> None:
        self.db.rollback()
        self._drop_others()

    def _drop_others(self) -> None:
        for drop in list(self.others.values()):
            drop()
        self.others.clear()

    def _play(self) -> None:
        """One run after the other: to make a greenlet takes as long as a step."""
        assert self._hub is not None
        while True:
            with suppress(GreenletExit):
                self._main()
            self._resting = True
            self._hub.switch()

    def _main(self) -> None:
        try:
            if self.waits_to_begin:
                self.gate(begin := Operation("begin", (), changed=True))
                self.took(begin, None)
            self.returned = returned = self.function(self.redis, self.db)
            if hasattr(type(returned), "__await__"):
                getattr(returned, "close", lambda: None)()
                self.fault = CoroutineFoundError(
                    f"The client {self.name!r} returned a coroutine that nobody awaits.",
                    "Give a coroutine function to explore, or a function that returns what it awaited.",
                )
        except GeneratorExit:  # a `finally` that awaits, after a crash in a step that does not
            if not self.crashed:
                raise
        except SystemExit:
            if not self.crashed:
                self.fault = self.fault or NotSteppableError(
                    f"The client {self.name!r} ended the process (sys.exit).",
                    "Return or raise an error instead: the caller decides what happens then.",
                )
        except ENDS:
            raise
        except BaseException as error:
            self.error = error
        finally:
            self.pending = None
            self.done = True


def _cell(held: Mapping[str, Any], name: str) -> CellType:
    """A variable of an outer function, which keeps nothing alive."""
    if name not in held:
        return CellType()
    thing = held[name]
    if not issubclass(type(thing), FunctionType | type):  # what stands for another asks it for more
        with suppress(TypeError):  # of numbers, texts, lists and dicts there are no weak references
            thing = weakref.ref(thing)
    return CellType(thing)


class _ActorGreenlet(greenlet):  # type: ignore[misc]
    def __init__(self, actor: Actor, run: Callable[[], None]) -> None:
        super().__init__(run)
        self.actor = self.timekeeper = actor
        self.thread = threading.get_ident()


def _thread_of(hub: Any) -> int:
    return getattr(hub, "thread", threading.get_ident())


_NEVER = object()
_BOTTOM = Actor._main.__code__
