"""Make the shop's rows: the same bytes each time, from a seed.

Run it from anywhere: `python data/make_data.py [directory]`. It needs the standard library only,
and of that only `Random.random`, whose sequence Python promises not to change for a seed.
"""

import bisect
import csv
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

SEED = 20_200_301
ALPHA = 1.2117
"""Zipf's exponent of cluster 52 in Twitter's production cache traces (March 2020)."""
USERS = 1_000
PRODUCTS = 200
ORDERS = 30_000
VIEWS = 20_000
START = datetime(2025, 1, 1)
DAYS = 90

_NAMES = (
    "ada alan barbara claude donald dorothy edsger frances grace hedy jean john karen katherine"
    " ken leslie linus margaret mary niklaus radia rosalind shafi sophie steve tim vint"
)
_COUNTRIES = "US IN BR JP DE GB FR ID MX NL PL AR ES CA KE AU SE KR NG CH"
_MATERIALS = "Oak Linen Brass Clay Cotton Glass Steel Walnut Wool Cork Slate Copper Paper"
_THINGS = "Lamp Chair Mug Bowl Shelf Clock Rug Vase Desk Tray Stool Kettle Notebook Frame Hook Box"


class Zipf:
    """Draws ranks 1..count, rank r with a probability in proportion to 1 / r ** alpha."""

    def __init__(self, random: Random, count: int, alpha: float = ALPHA) -> None:
        self._random = random
        self._sums = list(itertools.accumulate(rank**-alpha for rank in range(1, count + 1)))

    def draw(self) -> int:
        """One rank."""
        return bisect.bisect_left(self._sums, self._random.random() * self._sums[-1]) + 1


def shuffled(random: Random, items: Iterable[int]) -> list[int]:
    """The items in a random order."""
    return sorted(items, key=lambda _: random.random())


def moments(random: Random, count: int) -> list[str]:
    """That many moments of the shop's time, in order, busier at noon than at night."""
    found = []
    for _ in range(count):
        # The mean of two draws is a triangle with its peak at 12:00.
        seconds = int((random.random() + random.random()) / 2 * 86_400)
        found.append(START + timedelta(days=int(random.random() * DAYS), seconds=seconds))
    return [moment.isoformat(timespec="seconds") + "Z" for moment in sorted(found)]


def users(random: Random) -> Iterable[Sequence[object]]:
    """1,000 users; the first is ada."""
    names, codes = _NAMES.split(), _COUNTRIES.split()
    countries = Zipf(random, len(codes), 1.0)
    created = moments(random, USERS)
    for number in range(1, USERS + 1):
        turn, at = divmod(number - 1, len(names))
        name = names[at] + (str(turn + 1) if turn else "")
        country = codes[countries.draw() - 1]
        yield number, name, f"{name}@example.com", country, created[number - 1], 1


def products(random: Random) -> Iterable[Sequence[object]]:
    """200 products with a price; which of them are popular has nothing to do with their number."""
    names = [f"{material} {thing}" for thing in _THINGS.split() for material in _MATERIALS.split()]
    order = shuffled(random, range(len(names)))
    for number in range(1, PRODUCTS + 1):
        price = 100 * (4 + int(196 * random.random() ** 3)) + 95
        yield number, names[order[number - 1]], price, 20 + int(180 * random.random())


def make(directory: Path) -> None:
    """Write the five files."""
    random = Random(SEED)
    write(directory, "users", "id username email country created_at version", users(random))
    goods = list(products(random))
    write(directory, "products", "id name price_cents stock", goods)
    by_rank = shuffled(random, range(1, PRODUCTS + 1))  # the same favourites are seen and bought
    buyers = shuffled(random, range(1, USERS + 1))
    popular, active = Zipf(random, PRODUCTS), Zipf(random, USERS)

    orders = []
    for number, moment in enumerate(moments(random, ORDERS), start=1):
        product = by_rank[popular.draw() - 1]
        user = buyers[active.draw() - 1]
        quantity = 1 + int(4 * random.random() ** 4)
        orders.append((number, user, product, quantity, goods[product - 1][2], moment))
    write(directory, "orders", "id user_id product_id quantity price_cents created_at", orders)

    views = []
    for number, moment in enumerate(moments(random, VIEWS), start=1):
        product = by_rank[popular.draw() - 1]
        views.append((number, product, buyers[active.draw() - 1], moment))
    write(directory, "page_views", "id product_id user_id viewed_at", views)
    counts = Counter(product for _, product, _, _ in views)
    write(directory, "page_stats", "id views", ((n, counts[n]) for n in range(1, PRODUCTS + 1)))


def write(directory: Path, table: str, columns: str, rows: Iterable[Sequence[object]]) -> None:
    """Write a table's rows, with the names of its columns first."""
    with (directory / f"{table}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.split())
        writer.writerows(rows)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
