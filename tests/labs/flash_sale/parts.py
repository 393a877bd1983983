"""The parts of the shop, and the shops made of them, as the notebook of lab 16 shows them."""

import random
import secrets
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import nbformat
from redis.exceptions import ResponseError

from labsupport.labs.flash_sale import Shop

_NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "16_flash_sale.ipynb"


def _shown():
    """What the cells of the notebook define."""
    names = {"__name__": "__main__", "time": time, "random": random, "secrets": secrets}
    names |= {"suppress": suppress, "ResponseError": ResponseError, "metrics": Counter()}
    for cell in nbformat.read(_NOTEBOOK, as_version=4).cells:
        if cell.id.startswith(("naive-", "final-")) and cell.source.lstrip().startswith(
            ("def ", "ROW", "ADMIT", "RESERVE", "FREE")
        ):
            exec(cell.source, names)
    return SimpleNamespace(**names)


SHOWN = _shown()
NAIVE = Shop(
    sessions=SHOWN.sign_in,
    catalogue=SHOWN.read,
    door=SHOWN.admit,
    stock=SHOWN.reserve,
    orders=(SHOWN.place, SHOWN.work),
    mail=(SHOWN.confirm, SHOWN.mail),
)
FINAL = Shop(
    sessions=SHOWN.sign_in_whole,
    catalogue=SHOWN.read_once,
    door=SHOWN.admit_in_one,
    stock=SHOWN.reserve_once,
    orders=(SHOWN.place_in_stream, SHOWN.work_in_group),
    mail=(SHOWN.confirm_in_stream, SHOWN.mail_from_stream),
    data={"appendonly": "yes"},
)
