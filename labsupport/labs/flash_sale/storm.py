"""The storm: what is done to the processes of a sale, each at the step that matters."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import redis

from labsupport.errors import WorkerError
from labsupport.experiments import Stage
from labsupport.labs.flash_sale.clients import (
    ADA,
    BOB,
    CLEO,
    DAN,
    EVE,
    PAGE,
    RETRIES,
    be_held,
    book,
    booked_in,
    come_in_bursts,
    send_mail,
)
from labsupport.labs.flash_sale.plan import FAULTS, PART_OF, Plan
from labsupport.labs.flash_sale.watch import Watch
from labsupport.servers import Server, connect_client, with_database
from labsupport.workers import Worker

CREW = (ADA, BOB, CLEO, DAN, EVE)
_PATIENCE_SECONDS = 15.0
_LASTING_MS = 30_000  # a key that ends sooner may be gone for that
_WAITS = 4  # commands after which a reader waits for another reader's load


class Storm:
    """One sale, from the opening to the last order.

    Args:
        stage: gives the workers.
        server: the shop's Redis.
        without: the fault that is left out.
        pace: a rest between two moves, in seconds.

    Attributes:
        met: the faults that hit what they are about.
        forgotten: how many keys are gone, or are others, after the restart.
    """

    def __init__(self, stage: Stage, server: Server, without: str, pace: float) -> None:
        self._stage, self._server, self._without, self._pace = stage, server, without, pace
        self._pool, self._watch = stage.pool, Watch(stage)
        self.met: set[str] = set()
        self.forgotten = 0

    def open(self, shop: Callable[..., Any], plan: Plan, processes: int, name: str) -> None:
        """Start everybody, and let the first burst come."""
        url, self._shop, self._name = self._server.url, shop, name
        self._db = self._stage.shop()
        parts = [*shop("sessions"), *shop("catalogue"), *shop("door"), *shop("stock")]
        parts += [shop("orders")[0], shop("mail")[0]]
        self._proxy = self._stage.own(self._server.proxy())
        remote = f"redis://127.0.0.1:{self._proxy.port}"
        self._clients = len(plan)
        for place in range(processes):  # the crowd is first: its numbers are those of the plan
            share = len(plan) // processes + (place < len(plan) % processes)
            self._pool.start(come_in_bursts, plan, url, self._db, *parts, clients=share, name=name)
        self._crew = {
            role: self._pool.start(
                be_held, role, remote if role == CLEO else url, self._db, *parts,
                gated=True, name=name,
            )
            for role in CREW
        }  # fmt: skip
        held = self._armed("killed bookers")
        self._bookers = [self._booker(gated=held) for _ in range(2)]
        self._mailer = self._pool.start(send_mail, url, shop("mail")[1], name=name)
        self._pool.begin()
        if not held and self._armed("a restart"):
            for worker in self._bookers:  # so that orders wait in Redis
                worker.pause()
        self.burst(0)
        for worker in self._crew.values():
            worker.until("next")

    def burst(self, number: int) -> None:
        """Call a burst of the crowd, and wait until all have been served."""
        with connect_client(with_database(self._server.url, 1)) as calls:
            calls.xadd("bursts", {"burst": number}, id=f"{number + 1}-0")
        if not self._until(lambda: self._watch.count("burst over", value=number) >= self._clients):
            self._stage.cut_short = True  # the crowd is not through: what is left proves nothing
        self._rest()

    def restart(self, stock: int) -> None:
        """Redis is killed and started anew, while the orders of the first burst wait in it.

        Args:
            stock: how many pieces there were. If Redis has forgotten how many are left, somebody
                counts them, and types the number in.
        """
        self._strike("a restart")
        if self._armed("a restart"):
            self._watch.wait_for_mail(self._mailer)
            known, waiting = self._contents(_LASTING_MS), self._watch.waiting(self._db)
            self._server.kill()
            self._server.restart()
            found = self._contents(0)
            self.forgotten = sum(found.get(key) != value for key, value in known.items())
            with self._server.client() as admin:
                admin.set("stock", stock - self._watch.count("sold"), nx=True)
            for worker in self._working:
                worker.resume()
            if waiting > len(self._bookers):  # more than they can have in hand
                self.met.add("a restart")
        self._reach(CREW, "next")
        self._rest()

    def evict(self) -> None:
        """The page is gone while five want it, and nobody loads it before all have asked."""
        self._strike("an eviction")
        asked = {role: self._of("asked", role) for role in CREW}
        loads, served = ({role: self._of(e, role) for role in CREW} for e in ("load", "served"))
        if self._armed("an eviction"):
            with self._server.client() as admin:
                admin.delete(PAGE)
        for worker in self._crew.values():
            worker.go()

        def settled(role: int) -> bool:
            begun = self._of("load", role) > loads[role] or self._of("served", role) > served[role]
            return begun or self._of("asked", role) >= asked[role] + _WAITS

        self._until(lambda: all(map(settled, CREW)))
        if self._armed("an eviction") and all(self._of("asked", r) > asked[r] for r in CREW):
            self.met.add("an eviction")
        self._rest()
        for role in CREW:  # first all who load: the others may wait for them
            if self._of("load", role) > loads[role]:
                self._crew[role].go()
        self._reach(CREW, "next")

    def crowd_the_door(self) -> None:
        """Five processes let the same customer in, and each has read before another writes."""
        self._strike("a crowd at the door")
        if self._armed("a crowd at the door") and self._reach(CREW, "breakpoint"):
            self.met.add("a crowd at the door")
        self._reach(CREW, "next")
        self._rest()

    def stop(self) -> None:
        """Two processes are stopped between the steps of a sale, until all others have bought."""
        self._strike("a stopped process")
        self._stopped = []
        for role in (ADA, BOB) if self._armed("a stopped process") else ():
            if self._reach([role], "breakpoint"):
                self._crew[role].pause()
                self._stopped.append(role)
        self._rest()

    def go_on(self) -> None:
        """They are continued."""
        for role in (ADA, BOB):
            if role in self._stopped:
                self._crew[role].resume()
            self._reach([role], "next")
        if self._stopped == [ADA, BOB]:
            self.met.add("a stopped process")
        self._rest()

    def lose_replies(self) -> None:
        """The reply of the first, second and third command of a sale is lost."""
        self._strike("a lost reply")
        for _ in RETRIES:
            before = self._of("answered", CLEO)
            self._reach([CLEO], "breakpoint")
            if self._of("answered", CLEO) == before and self._armed("a lost reply"):
                self._proxy.lose_reply()
                self.met.add("a lost reply")
            self._reach([CLEO], "next")
        self._rest()

    def ask_again(self) -> None:
        """Whoever was told nothing asks once more, now that everything is sold."""
        self._reach([CLEO], "next")

    def kill_clerks(self) -> None:
        """Two processes are killed after the first command of a sign-in, and of a knock."""
        self._strike("a killed clerk")
        if self._armed("a killed clerk"):
            came = [self._reach([role], "breakpoint") for role in (DAN, EVE)]
            for role in (DAN, EVE):
                self._crew[role].kill()
            if all(came):
                self.met.add("a killed clerk")
        self._rest()

    def kill_bookers(self) -> None:
        """One worker is killed before it has booked an order, and one after."""
        self._strike("killed bookers")
        self._working = self._bookers
        if self._armed("killed bookers"):
            came: list[Worker] = []
            points = ["before booking"], ["before booking", "after booking"]
            for names, worker in zip(points, self._bookers, strict=True):
                with suppress(WorkerError):  # it books nothing
                    for name in names:
                        worker.until(name, seconds=_PATIENCE_SECONDS / 5)
                    came.append(worker)
                worker.kill()
            if came == self._bookers:
                self.met.add("killed bookers")
            self._working = []
        self._rest()

    def hire(self) -> None:
        """A worker takes the place of those who were killed."""
        self._working = self._working or [self._hire(self._booker)]

    def stop_the_mail(self) -> None:
        """The mailer is killed."""
        self._strike("a mailer away")
        if self._armed("a mailer away"):
            self._mailer.kill()

    def mail_again(self) -> None:
        """Another mailer begins, when orders were confirmed meanwhile."""
        if self._mailer.killed:
            if self._watch.count("confirmed", since="a mailer away"):
                self.met.add("a mailer away")
            self._mailer = self._hire(
                lambda: self._pool.start(
                    send_mail, self._server.url, self._shop("mail")[1], name=self._name
                )
            )
        self._working.append(self._mailer)
        self._rest()

    def end(self) -> list[int]:
        """Send everybody home; returns whose orders are booked, one for each row."""
        self._watch.wait_for_the_end(self._working, self._db)
        for worker in self._crew.values():
            worker.kill()
        self._stage.finish(patience_seconds=_PATIENCE_SECONDS / 5)
        return booked_in(self._db)

    def _contents(self, lasting_ms: int) -> dict[str, Any]:
        """What is in Redis, for so long at the least."""
        with self._server.client() as admin:
            ttls = {str(key): admin.pttl(key) for key in admin.scan_iter(count=1000)}
            lasting = [key for key, ms in ttls.items() if ms == -1 or ms >= lasting_ms]
            return {key: _value_of(admin, key) for key in lasting}

    def _booker(self, *, gated: bool = False) -> Worker:
        work = self._shop("orders")[1]
        url, name = self._server.url, self._name
        return self._pool.start(book, url, self._db, work, gated=gated, name=name)

    @staticmethod
    def _hire(start: Callable[[], Worker]) -> Worker:
        worker = start()
        worker.send("begin")
        return worker

    def _armed(self, fault: str) -> bool:
        return fault != self._without

    def _strike(self, fault: str) -> None:
        if self._armed(fault):
            self._pool.note("struck", FAULTS.index(fault), PART_OF[fault])

    def _reach(self, roles: Iterable[int], name: str) -> bool:
        """Let some go on to a point; False if one does not come: it waits for ever, or failed."""
        came: list[bool] = []
        for role in roles:
            try:
                self._crew[role].until(name, seconds=_PATIENCE_SECONDS if all(came) else 0.1)
                came.append(True)
            except WorkerError:
                came.append(False)
        return all(came)

    def _of(self, event: str, role: int) -> int:
        return self._watch.of(event, self._crew[role])

    def _until(self, done: Callable[[], bool]) -> bool:
        return self._stage.wait(done, seconds=_PATIENCE_SECONDS)

    def _rest(self) -> None:
        self._stage.wait(seconds=self._pace)


def _value_of(admin: redis.Redis, key: str) -> Any:
    reads: dict[str, Callable[[], Any]] = {
        "string": lambda: admin.get(key),
        "hash": lambda: admin.hgetall(key),
        "list": lambda: admin.lrange(key, 0, -1),
        "set": lambda: admin.smembers(key),
        "zset": lambda: admin.zrange(key, 0, -1, withscores=True),
        "stream": lambda: admin.xrange(key),
    }
    read = reads.get(str(admin.type(key)))
    return read() if read else None
