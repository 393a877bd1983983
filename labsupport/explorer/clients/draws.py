"""What clients draw from: the same draws in each run."""

import random
from collections.abc import Callable

__all__ = ["Chance", "Few"]


class Chance(random.Random):
    """What a client draws from, by its name, unless it draws one of a few."""

    def __init__(self, name: str, few: Callable[[int], random.Random | None]) -> None:
        super().__init__(name)
        self._few = few

    def getrandbits(self, k: int, /) -> int:
        common = self._few(k)
        # half of the values: none is drawn once more for being too large
        return super().getrandbits(k) if common is None else common.getrandbits(max(k - 1, 0))


class Few(random.Random):
    """What few values are drawn from: by all, or by each what is so much of 2**32 away from another's."""

    def __init__(self, shift: int) -> None:
        super().__init__(0)
        self._shift = shift

    def random(self) -> float:
        return (super().random() + self._shift / 2**32) % 1

    def getrandbits(self, k: int, /) -> int:
        return (super().getrandbits(k) + (self._shift << k >> 32)) % (1 << k)
