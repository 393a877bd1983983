"""The rows in data/: made by the script beside them, and skewed as its README says."""

import csv
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "data"
TABLES = ["orders", "page_stats", "page_views", "products", "users"]


def read(table: str) -> list[dict[str, str]]:
    """The rows of one file."""
    with (DATA / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_script_makes_the_same_bytes(tmp_path: Path) -> None:
    """Running make_data.py again gives exactly the files that are there, and no others."""
    subprocess.run([sys.executable, DATA / "make_data.py", tmp_path], check=True)
    assert sorted(path.stem for path in tmp_path.iterdir()) == TABLES
    for table in TABLES:
        name = f"{table}.csv"
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


def test_the_data_is_small() -> None:
    """A clone stays quick: all files together are below 3 MB."""
    assert sum(path.stat().st_size for path in DATA.glob("*.csv")) < 3_000_000


def test_ada_is_user_1() -> None:
    """The labs begin with user 1, ada, in her first version."""
    first = read("users")[0]
    assert (first["id"], first["username"], first["version"]) == ("1", "ada", "1")
    assert len(read("users")) == 1_000
    assert len({user["username"] for user in read("users")}) == 1_000


@pytest.mark.parametrize("table", TABLES)
def test_ids_count_from_one(table: str) -> None:
    """Each table's ids are 1, 2, 3 … without a gap."""
    ids = [int(row["id"]) for row in read(table)]
    assert ids == list(range(1, len(ids) + 1))


def test_each_reference_has_its_row() -> None:
    """Orders and views belong to users and products that exist; the counts agree with the views."""
    users = {row["id"] for row in read("users")}
    products = {row["id"]: row for row in read("products")}
    for row in read("orders") + read("page_views"):
        assert row["user_id"] in users
        assert row["product_id"] in products
    assert all(
        order["price_cents"] == products[order["product_id"]]["price_cents"]
        for order in read("orders")
    )
    views = Counter(row["product_id"] for row in read("page_views"))
    assert {row["id"]: int(row["views"]) for row in read("page_stats")} == {
        product: views[product] for product in products
    }


@pytest.mark.parametrize("table", ["orders", "page_views"])
def test_popularity_follows_zipf_with_the_exponent_of_the_trace(table: str) -> None:
    """The slope of log(count) over log(rank) is that of Twitter's cluster 52, α = 1.2117."""
    counts = [n for _, n in Counter(row["product_id"] for row in read(table)).most_common(50)]
    ranks = [math.log(rank) for rank in range(1, 51)]
    logs = [math.log(count) for count in counts]
    x, y = sum(ranks) / 50, sum(logs) / 50
    slope = sum((a - x) * (b - y) for a, b in zip(ranks, logs, strict=True)) / sum(
        (a - x) ** 2 for a in ranks
    )
    assert -slope == pytest.approx(1.2117, abs=0.06)
    assert counts[0] > 20 * len(read(table)) / 200  # far from even


def test_popular_products_are_not_the_first_numbers() -> None:
    """Popularity has nothing to do with a product's number, and is the same in both tables."""
    top = [
        [product for product, _ in Counter(r["product_id"] for r in read(table)).most_common(5)]
        for table in ("orders", "page_views")
    ]
    assert set(top[0]) == set(top[1])
    assert top[0] != ["1", "2", "3", "4", "5"]
