"""What is drawn by chance, from the explorer's own generators inside an explored function.

Everywhere else each function is what it stands for.
"""

import base64
import functools
import os
import random
import secrets
import sys
import uuid
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from labsupport.explorer.clients.namespaces import installed
from labsupport.explorer.stand_ins.timekeeper import timekeeper_here
from labsupport.explorer.stand_ins.uses import only_slept, use_of

__all__ = ["CLASSES", "DRAWER", "FUNCTIONS", "OF_RANDOM", "drawing", "drawn", "seeding"]


class _Kind(type):
    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, cls.__mro__[1])


def drawn(usual: Callable[..., Any], of: Callable[..., Any]) -> Callable[..., Any]:
    """A function that draws; `of` is called with what to draw from, and with its arguments."""

    def draw(*args: Any, **options: Any) -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return usual(*args, **options)
        drawn = of(keeper.chance, *args, **options)
        _used(0, 0)
        return drawn

    return draw


def _urandom(chance: random.Random, size: int, flags: int = 0) -> bytes:
    return chance.randbytes(size)


_TICKS_TO_1970 = 0x01B21DD213814000  # of 100 ns, since 1582
_MACHINE = 0x0300_0000_0001  # no network card's address: it is one of a group


def _uuid4(chance: random.Random) -> uuid.UUID:
    return uuid.UUID(bytes=chance.randbytes(16), version=4)


def _uuid1(
    chance: random.Random, node: int | None = None, clock_seq: int | None = None
) -> uuid.UUID:
    """By the client's clock, on one machine for all, as RFC 9562 has it."""
    keeper = timekeeper_here()
    assert keeper is not None
    now = round(keeper.time(asked=False) * 10**6) * 10 + _TICKS_TO_1970
    ticks = max(now, vars(chance).get("ticks", 0) + 1)  # no two are alike
    vars(chance)["ticks"] = ticks
    node = _MACHINE if node is None else node
    sequence = (
        random.Random.getrandbits(chance, 14) if clock_seq is None else clock_seq
    ) & 0x3FFF | 0x8000
    low, middle, high = ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF
    return uuid.UUID(fields=(low, middle, high, sequence >> 8, sequence & 0xFF, node), version=1)


DRAWER: Any = random.randint.__self__  # type: ignore[attr-defined]
_GENERATOR, _USUAL_SEED = random.Random, random.seed
_USUAL_STATE = random.setstate
# what they draw goes back and forth: of very small fractions they would ask for ever more
_TRIED_ONCE = frozenset({"betavariate", "binomialvariate", "gammavariate", "gauss"})
_TRIED_ONCE |= {"lognormvariate", "normalvariate", "vonmisesvariate"}
_DRAW = frozenset({"random", "secrets", "uuid", __name__})


def _few(bits: int) -> random.Random | None:
    """What all clients draw alike from, if they do, and a draw is of so few values that they may."""
    few: Callable[[int], random.Random | None] | None = getattr(timekeeper_here(), "few", None)
    return few(bits) if few is not None else None


def _unless_seeded(name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
    """A method of the module's generator; of the client's own, once it has given that a seed."""

    def draw(*args: Any, **options: Any) -> Any:
        own = getattr(getattr(timekeeper_here(), "whole", None), "seeded", None)
        return (usual if own is None else getattr(own, name))(*args, **options)

    return draw


def _seed(*args: Any, **options: Any) -> None:
    keeper = timekeeper_here()
    client: Any = getattr(keeper, "whole", None)
    by_chance = args[:1] in ((), (None,)) and options.get("a") is None
    if client is not None:
        client.seeded = None if by_chance else _GENERATOR(0)
        client.gave_seed = client.gave_seed or not by_chance
        DRAWER.gauss_next = None
    if keeper is None or not by_chance:
        (_USUAL_SEED if client is None else client.seeded.seed)(*args, **options)


def _setstate(state: Any) -> None:
    if getattr(timekeeper_here(), "whole", None) is None:
        _USUAL_STATE(state)
    else:
        _seed(0)
        timekeeper_here().whole.seeded.setstate(state)  # type: ignore[union-attr]


def _bits(usual: Callable[[int], int]) -> Callable[[int], int]:
    def getrandbits(k: int, /) -> int:
        common = _few(k)
        return _used(k, usual(k)) if common is None else common.getrandbits(max(k - 1, 0))

    return getrandbits


def _choosing(usual: Callable[..., Any]) -> Callable[..., Any]:
    def choices(
        population: Any, weights: Any = None, *, cum_weights: Any = None, k: int = 1
    ) -> Any:
        common = _few(k * max(len(population) - 1, 1).bit_length())
        held = None if weights is cum_weights else _held()
        draw = usual if common is None else common.choices
        if held is not None:  # what has little weight is drawn, too, if it is the first or the last
            drawn = (common or timekeeper_here().chance).random  # type: ignore[union-attr]
            source: Any = SimpleNamespace(random=lambda: held(drawn()))
            draw = functools.partial(_GENERATOR.choices, source)
        return draw(population, weights, cum_weights=cum_weights, k=k)

    return choices


def _fraction(usual: Callable[[], float]) -> Callable[[], float]:
    """`random.random()` and what is made of it, where code of one's own may decide by that."""

    def fraction() -> float:
        drawn, held = usual(), _held()
        return drawn if held is None else held(drawn)

    return fraction


def _held() -> Callable[[float], float] | None:
    """What makes a fraction very small, or very large; None where nothing does."""
    keeper: Any = timekeeper_here()
    held: Callable[[float], float] | None = getattr(keeper, "fraction", None)
    frame: Any = sys._getframe(1)
    made = ""  # by which function of `random`
    while held is not None and (name := frame.f_globals.get("__name__", "")) in {
        "random",
        __name__,
    }:
        made = frame.f_code.co_name if name == "random" else made
        frame = frame.f_back
    if held is None or made == "choices" or installed(frame.f_globals.get("__name__", "")):
        return None
    code, at = frame.f_code, frame.f_lasti
    if not use_of(code, at, among_few=True) if made else only_slept(code, at):
        return None
    keeper.clock.drew_once |= made in _TRIED_ONCE
    return None if made in _TRIED_ONCE else held


def _used(bits: int, drawn: int) -> int:
    """A draw of very many, where code of one's own may go by it: at both ends, or noted as drawn once."""
    keeper: Any = timekeeper_here()
    whole = getattr(keeper, "whole", None)
    if whole is None or not whole.drew_many:
        return drawn
    whole.drew_many = False
    frame: Any = sys._getframe(1)
    below = 1 << bits
    while frame is not None and frame.f_globals.get("__name__") in _DRAW:
        if frame.f_code.co_name.startswith("_randbelow"):
            below = frame.f_locals["n"]
        frame = frame.f_back
    use = ""
    while frame is not None and not installed(frame.f_globals.get("__name__", "")):
        use = use_of(frame.f_code, frame.f_lasti)
        if use != "returned":
            break
        frame = frame.f_back
    if use == "compared":
        held = keeper.fraction(drawn / (1 << bits))
        return min(int(held * below), below - 1) if keeper.clock.fractions else drawn
    keeper.clock.drew_once |= use == "decides"
    return drawn


class _SystemRandom(random.SystemRandom):
    def random(self) -> float:
        keeper = timekeeper_here()
        return super().random() if keeper is None else _fraction(keeper.chance.random)()

    def getrandbits(self, k: int) -> int:
        keeper = timekeeper_here()
        return super().getrandbits(k) if keeper is None else _used(k, keeper.chance.getrandbits(k))

    def randbytes(self, n: int) -> bytes:
        keeper = timekeeper_here()
        return super().randbytes(n) if keeper is None else keeper.chance.randbytes(n)

    def choices(
        self, population: Any, weights: Any = None, *, cum_weights: Any = None, k: int = 1
    ) -> Any:
        draw = _choosing(super().choices)
        return draw(population, weights, cum_weights=cum_weights, k=k)


class _Random(random.Random, metaclass=_Kind):
    def __init__(self, seed: Any = None) -> None:
        keeper = timekeeper_here()
        super().__init__(keeper.chance.random() if seed is None and keeper else seed)
        if seed is None and keeper:
            vars(self).update(drawing(self))


def drawing(generator: random.Random) -> dict[str, Any]:
    """The methods of a generator, which may draw alike until it is given a seed: that says what it draws."""
    if isinstance(generator, random.SystemRandom):
        names = ("choices", "getrandbits", "randbytes", "random")
        return {name: getattr(_SYSTEM_RANDOM, name) for name in names}
    kind = type(generator)

    def seed(*args: Any, **options: Any) -> None:
        for name in methods:
            vars(generator).pop(name, None)
        kind.seed(generator, *args, **options)

    methods = {
        "choices": _choosing(generator.choices),
        "getrandbits": _bits(generator.getrandbits),
        "random": _fraction(generator.random),
        "seed": seed,
    }
    return methods


def seeding(chance: random.Random, bits: int) -> int:
    """A seed for a generator of NumPy's, which draws in ways that nobody holds."""
    clock = getattr(timekeeper_here(), "clock", None)
    if clock is not None:
        clock.drew_once = True
    return chance.getrandbits(bits)


def _token_bytes(chance: random.Random, nbytes: int | None = None) -> bytes:
    return chance.randbytes(secrets.DEFAULT_ENTROPY if nbytes is None else nbytes)


def _token_hex(chance: random.Random, nbytes: int | None = None) -> str:
    return _token_bytes(chance, nbytes).hex()


def _token_urlsafe(chance: random.Random, nbytes: int | None = None) -> str:
    text = base64.urlsafe_b64encode(_token_bytes(chance, nbytes))
    return text.rstrip(b"=").decode("ascii")


_SYSTEM_RANDOM = _SystemRandom()
OF_RANDOM: dict[str, Any] = {
    "choices": _unless_seeded("choices", _choosing(random.choices)),
    "getrandbits": _unless_seeded("getrandbits", _bits(random.getrandbits)),
    "random": _unless_seeded("random", _fraction(random.random)),
    "seed": _seed,
    "setstate": _setstate,
}

FUNCTIONS: list[tuple[ModuleType, dict[str, Any]]] = [
    (uuid, {"uuid1": drawn(uuid.uuid1, _uuid1), "uuid4": drawn(uuid.uuid4, _uuid4)}),
    (
        secrets,
        {
            "token_bytes": drawn(secrets.token_bytes, _token_bytes),
            "token_hex": drawn(secrets.token_hex, _token_hex),
            "token_urlsafe": drawn(secrets.token_urlsafe, _token_urlsafe),
            "choice": _SYSTEM_RANDOM.choice,
            "randbelow": lambda below: _SYSTEM_RANDOM.randrange(below),
            "randbits": _SYSTEM_RANDOM.getrandbits,
        },
    ),
    (random, OF_RANDOM),
    (os, {"urandom": drawn(os.urandom, _urandom)}),
]
if hasattr(os, "getrandom"):  # Linux
    FUNCTIONS.append((os, {"getrandom": drawn(os.getrandom, _urandom)}))
CLASSES: list[tuple[ModuleType, dict[str, Any]]] = [
    (random, {"Random": _Random, "SystemRandom": _SystemRandom}),
    (secrets, {"SystemRandom": _SystemRandom}),
]
