"""The Redis Patterns Lab: what the notebooks call."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labsupport.course import check, hint, solution
    from labsupport.errors import LabError
    from labsupport.exploration import explore
    from labsupport.lab import Lab
    from labsupport.prints import printed

__all__ = ["Lab", "LabError", "check", "explore", "hint", "printed", "solution"]

_ROOMS = {
    "Lab": "lab",
    "LabError": "errors",
    "check": "course",
    "explore": "exploration",
    "hint": "course",
    "printed": "prints",
    "solution": "course",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: whoever takes only the explorer home has no JupyterLab."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
