"""A claim, and whether it held, broke, or was never put to the test."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from typing import Literal

Status = Literal["holds", "broken", "not exercised"]

_LOOK: dict[Status, tuple[str, str, str]] = {
    # sign, text colour, background (both themes of JupyterLab; told apart in greys: dark, middle, light)
    "holds": ("✓", "#ffffff", "#00402e"),
    "broken": ("✗", "#111111", "#d55e00"),
    "not exercised": ("?", "#111111", "#e0e0e0"),
}
_CODE = re.compile(r"`([^`]+)`")  # as docstrings have it


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement that a run can refute.

    Args:
        text: the statement; it holds no measured number, so that it reads the same after each run.
        status: "holds", "broken", or "not exercised" (the run never met the fault).
        detail: the measured evidence; never part of the text that CI compares.
    """

    text: str
    status: Status
    detail: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{_LOOK[self.status][0]} {self.status:<13}  {self.text}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says of its claims; shown as one line a claim."""

    claims: tuple[Claim, ...]

    def __init__(self, claims: Iterable[Claim]) -> None:
        object.__setattr__(self, "claims", tuple(claims))

    @property
    def status(self) -> Status:
        """ "broken" if a claim is; else "not exercised" if a claim is, or there is none; else "holds"."""
        found = {claim.status for claim in self.claims}
        if "broken" in found:
            return "broken"
        return "holds" if found == {"holds"} else "not exercised"

    def __str__(self) -> str:
        return "\n".join(map(str, self.claims))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(row(claim.status, claim.status, claim.text) for claim in self.claims)


def status_of(met: bool, *, broken: bool = False) -> Status:
    """What becomes of a claim in a run that met the fault, or did not; what broke, broke in any case."""
    if broken:
        return "broken"
    return "holds" if met else "not exercised"


def row(status: Status, word: str, text: str) -> str:
    """A line of HTML: a badge that looks as the status does, and what is said of it."""
    said = _CODE.sub(r"<code>\1</code>", escape(text))
    sign, colour, background = _LOOK[status]
    badge = (
        f"flex:none;align-self:start;min-width:8.5em;padding:.1em .6em;margin-right:.8em;"
        f"border-radius:.3em;font-weight:600;color:{colour};background:{background}"
    )
    return (
        f'<div style="display:flex;margin:.25em 0;font-size:1.1em">'
        f'<span style="{badge}">{sign} {word}</span>'
        f'<span style="padding:.1em 0">{said}</span></div>'
    )
