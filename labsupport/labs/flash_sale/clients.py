"""The processes of a sale: customers in bursts, a crew that is held at its steps, bookers, a mailer."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import redis as redis_py
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from labsupport.database import Database
from labsupport.servers import connect_client, with_database
from labsupport.workers import Breakpoint, Client, breakpoint_client, point

PAGE = "page:kettle"
LIMIT = 3
"""How often the door lets a customer in each minute."""
BOT, ADA, BOB, CLEO, DAN, EVE = range(2_000_001, 2_000_007)
"""Who does not come with the crowd; the shop's own users have lower numbers."""
RETRIES = tuple(range(2_000_011, 2_000_014))
"""The customers whose first, second and third reply is lost."""

_NAME = "SELECT name FROM products WHERE id = 1"
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "WITH")
_LOOK_MS = 200
_PATIENT = Retry(ConstantBackoff(0.05), 300)


def tell_trips(redis: redis_py.Redis, sent: Callable[[], object]) -> None:
    """Let `sent` be called before each round trip of a client."""
    kind: Any = redis.connection_pool.connection_class

    class Telling(kind):  # type: ignore[misc]
        def send_packed_command(self, command, check_health=True):  # type: ignore[no-untyped-def]
            sent()
            super().send_packed_command(command, check_health)

    redis.connection_pool.connection_class = Telling
    redis.connection_pool.reset()


class _Line:
    """A connection to the shop's Redis that counts its round trips, and can be held."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self.trips = 0
        self.redis: redis_py.Redis
        self.hold: Breakpoint
        self.redis, self.hold = breakpoint_client(url)
        tell_trips(self.redis, self._sent)
        self.connect()

    def connect(self) -> None:
        """Connect again if it must: that is no step of the shop's."""
        try:
            self.redis.ping()
        except redis_py.ConnectionError:  # the server was started anew, or a reply was lost
            self.redis.connection_pool.disconnect()
            self.redis.ping()

    def _sent(self) -> None:
        self.trips += 1
        self._client.note("asked")


class _Customer:
    """What a customer does with the functions of a shop."""

    def __init__(
        self, client: Client, url: str, shop: Database, parts: Sequence[Callable[..., Any]]
    ) -> None:
        self.sign_in, self.read, self.admit, self.reserve, self.place, self.confirm = parts
        self.line, self._client, self._session = _Line(client, url), client, shop.session()
        self._right = self._session.fetch_one(_NAME)

    def look(self) -> None:
        """Read the page through the cache."""
        page = self.read(self.line.redis, PAGE, self._load)
        self._client.note("served", page == (self._right or {}).get("name"))

    def _load(self) -> Any:
        point("load")
        return (self._session.fetch_one(_NAME) or {})["name"]

    def has(self, told: Any, customer: int) -> None:
        """Go on with a piece that is reserved, if it is."""
        if told:
            self._client.note("sold", customer)
            self.place(self.line.redis, customer)
            self._client.note("placed", customer)
            self.confirm(self.line.redis, customer)
            self._client.note("confirmed", customer)

    def visit(self, customer: int, knocks: int) -> None:
        """Come, look, knock, buy."""
        self.line.connect()
        self.line.trips = 0
        redis, note = self.line.redis, self._client.note
        self.sign_in(redis, f"token-{customer}", customer)
        known = redis.hget(f"session:token-{customer}", "customer")
        note("known" if known == str(customer) else "stranger", customer)
        self.look()
        told = [bool(self.admit(redis, customer)) for _ in range(knocks)]
        for let_in in told:
            note("let in" if let_in else "refused", customer)
        bought = any(told) and self.reserve(redis, customer)
        self.has(bought, customer)
        if bought and knocks == 1:
            note("trips", self.line.trips - 1)  # `known` was asked by the lab itself


def come_in_bursts(
    client: Client, plan: Sequence[Sequence[Sequence[tuple[int, int]]]], url: str, shop: Database,
    *parts: Callable[..., Any],
) -> None:  # fmt: skip
    """Be a part of the crowd: when a burst is called, its customers come one after the other."""
    self = _Customer(client, url, shop, parts)
    # out of sight of the shop, and none of its worries
    calls = connect_client(with_database(url, 1), retry=_PATIENT)
    client.meet()
    for burst, customers in enumerate(plan[client.number]):
        while client.running and not calls.xread({"bursts": f"{burst}-0"}, 1, _LOOK_MS):
            pass
        for customer, knocks in customers if client.running else ():
            self.visit(customer, knocks)
        client.note("burst over", burst)


def be_held(
    client: Client, role: int, url: str, shop: Database, *parts: Callable[..., Any]
) -> None:
    """Be one of the crew: look and knock with the others, then do what the role is there for."""
    self = _Customer(client, url, shop, parts)
    redis, hold = self.line.redis, self.line.hold

    def held(before: int, call: Callable[..., Any], *args: Any) -> Any:
        self.line.connect()
        hold.before(before)
        try:
            told = call(redis, *args)
            client.note("answered", role)
        except (redis_py.ConnectionError, redis_py.WatchError):
            told = None
        hold.over()
        return told

    client.meet()
    point("next")
    self.line.connect()
    point("next")
    self.look()
    point("next")
    client.note("bot in" if held(2, self.admit, BOT) else "bot refused")
    point("next")
    if role in (ADA, BOB):
        self.has(held(2 if role == ADA else 3, self.reserve, role), role)
    elif role == DAN:
        held(2, self.sign_in, f"token-{DAN}", DAN)
    elif role == EVE:
        held(2, self.admit, EVE)
    else:
        told = []
        for place, customer in enumerate(RETRIES, 1):
            told.append(held(place, self.reserve, customer))
            self.has(told[-1], customer)
            point("next")
        for customer, reply in zip(RETRIES, told, strict=True):
            if reply is None:  # so the customer asks again, when all the others have been served
                self.has(self.reserve(redis, customer), customer)
    point("next")


def book(client: Client, url: str, shop: Database, work: Callable[..., Any]) -> None:
    """Be a worker that books orders, and can be held before and after it has written one."""

    def around(sql: str, params: dict[str, Any], inside: bool, run: Callable[[], Any]) -> Any:
        writes = sql.lstrip().upper().startswith(_WRITES)
        if writes:
            point("before booking")
        found = run()
        if writes and found.changed:
            client.note("booked")
        if sql == "COMMIT" or (writes and not inside):
            point("after booking")
        return found

    redis, db = connect_client(url), shop.session(around=around)
    client.meet()
    _supervised(redis, lambda: work(redis, db, f"worker-{client.number}", _looking(client)))


def send_mail(client: Client, url: str, mail: Callable[..., Any]) -> None:
    """Be the mailer."""
    redis = connect_client(url)
    client.meet()
    sent = functools.partial(client.note, "mailed")
    _supervised(redis, lambda: mail(redis, lambda who: sent(int(who)), _looking(client)))


def _supervised(redis: redis_py.Redis, work: Callable[[], object]) -> None:
    """Start a worker, and start it again if its Redis was gone."""
    try:
        work()
    except redis_py.ConnectionError:
        redis.connection_pool.disconnect()
        _PATIENT.call_with_retry(redis.ping, lambda _: None)  # it may not be there yet
        work()


def _looking(client: Client) -> Callable[[], bool]:
    def running() -> bool:
        client.note("looked")
        return client.running

    return running


def booked_in(db: Database) -> list[int]:
    """Whose orders are written, one for each row."""
    rows = db.fetch_all("SELECT user_id FROM orders WHERE user_id > 1000000")
    return [int(row["user_id"]) for row in rows]
