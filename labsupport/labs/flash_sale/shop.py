"""A shop is a choice: one function or two for each of its parts, and how its Redis persists."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from labsupport.errors import InvalidSettingError
from labsupport.experiments import check_parameters

if TYPE_CHECKING:
    import pandas as pd

    from labsupport.experiments import Result

PARTS = ("sessions", "catalogue", "door", "stock", "orders", "mail", "data")
"""In the order in which a customer meets them; the last one carries the others."""
_SETTINGS = ("appendfsync", "appendonly", "save")

Function = Callable[..., Any]
_SIGNS = {"holds": "✓", "broken": "✗", "not exercised": "?"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shop:
    """The functions that a shop is made of; `FlashSale.run` takes one.

    Args:
        sessions: `sign_in(redis, token, customer)` keeps the customer in the field customer of the
            hash session:{token}, for half an hour.
        catalogue: `read(redis, key, load)` returns the text in `key`, or what `load()` returns.
        door: `admit(redis, customer)` says whether a customer may come in: three times a minute.
        stock: `reserve(redis, customer)` takes one from the number in the key stock; True, or False
            when there is none. A customer has one piece at the most.
        orders: `place(redis, customer)`, which puts an order where `work(redis, db, me, running)`
            finds it: while `running()`, it writes one row of the table orders for each, whose
            user_id is the customer.
        mail: `confirm(redis, customer)` and `mail(redis, send, running)`, which calls
            `send(customer)` for each.
        data: how Redis persists: settings as in redis.conf, of appendonly, appendfsync and save.
            Without any it keeps everything in memory alone.
    """

    forms: ClassVar[dict[str, Sequence[tuple[str, ...]]]] = {
        "sessions": [("redis", "token", "customer")],
        "catalogue": [("redis", "key", "load")],
        "door": [("redis", "customer")],
        "stock": [("redis", "customer")],
        "orders": [("redis", "customer"), ("redis", "db", "me", "running")],
        "mail": [("redis", "customer"), ("redis", "send", "running")],
    }

    sessions: Function
    catalogue: Function
    door: Function
    stock: Function
    orders: tuple[Function, Function]
    mail: tuple[Function, Function]
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.data, Mapping) or not {*self.data} <= {*_SETTINGS}:
            raise InvalidSettingError(
                f"The part data is {self.data!r}.",
                f'Give it settings, of {", ".join(_SETTINGS)}, e.g. {{"appendonly": "yes"}}.',
            )
        for part, forms in self.forms.items():
            found = self(part)
            if len(found) != len(forms):
                raise InvalidSettingError(
                    f"The part {part} is not {len(forms)} functions.",
                    f"Give it {' and '.join('(' + ', '.join(form) + ')' for form in forms)}.",
                )
            for function, form in zip(found, forms, strict=True):
                name = getattr(function, "__name__", part)
                text = f"({', '.join(form)})"
                check_parameters(function, form, given_to=f"Shop({part}=…)", name=name, form=text)

    def __call__(self, part: str) -> tuple[Any, ...]:
        """The functions of a part; of data the settings."""
        found = getattr(self, part)
        return found if isinstance(found, tuple) else (found,)

    def but(self, **parts: Any) -> "Shop":
        """The same shop with other parts."""
        return dataclasses.replace(self, **parts)


def table_of(*results: "Result") -> "pd.DataFrame":
    """Runs against claims: ✓ holds, ✗ broken, ? not exercised; and how many each run holds."""
    import pandas as pd  # not above: the workers are sent this module, and never need it

    columns = {
        result.name: {
            **{claim.text: _SIGNS[claim.status] for claim in result.verdict.claims},
            "claims held": str(int(result.numbers["held"])),
            "round trips per sale": f"{result.numbers['trips_per_sale']:.0f}",
        }
        for result in results
    }
    return pd.DataFrame(columns)
