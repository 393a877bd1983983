"""What code does, as its instructions say: what it sets, names, and only adds to."""

import dis
import functools
import itertools
from types import CodeType
from typing import Any

__all__ = ["BY_TEXT", "bare_names", "changes_of", "only_added_to", "paths_set", "texts_in"]

_CALLS = frozenset({"CALL", "PRECALL"})
_SETS = frozenset({"STORE_ATTR", "DELETE_ATTR"})
_STORES = frozenset({"STORE_FAST", "STORE_DEREF", "STORE_NAME"})
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_GLOBALS = _LOADS | {"STORE_GLOBAL", "DELETE_GLOBAL"}
# what reaches any attribute
BY_TEXT = frozenset({"__dict__", "__setattr__", "delattr", "setattr", "vars"})
_METHODS = frozenset({"LOAD_METHOD", "LOAD_ATTR"})
_NOTES = frozenset({"append", "update"})  # a list's, a Counter's: nobody asks what is in it
_BINDS = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"})


@functools.lru_cache(maxsize=4096)
def changes_of(code: CodeType) -> tuple[frozenset[str], ...]:
    """What code sets: attributes, names outside of it, attributes of others than `self`, of arguments."""
    sets, binds, elsewhere, handed = set(), set(), set(), set()
    given = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - {"self"}
    used = [one for one in dis.get_instructions(code) if one.opname != "COPY"]
    pairs = {(_last(of), one.argval) for of, one in itertools.pairwise(used)}
    for before, one in itertools.pairwise(used):
        if one.opname in _SETS:
            sets.add(one.argval)
            mine = before.opname == "SWAP" and ("self", one.argval) in pairs  # self.n += 1
            if not mine and _last(before) != "self":
                elsewhere.add(one.argval)
            if any((argument, one.argval) in pairs for argument in given):
                handed.add(one.argval)
        elif one.opname in _BINDS and one.argval not in code.co_cellvars:
            binds.add(one.argval)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more, outer, others, inner_handed = changes_of(inner)
            sets |= more
            binds |= outer - set(code.co_cellvars)
            elsewhere |= others
            handed |= inner_handed
    return frozenset(sets), frozenset(binds), frozenset(elsewhere), frozenset(handed)


def _last(one: dis.Instruction) -> Any:
    """The name that is on the stack after an instruction that loads one, or two."""
    return one.argval[-1] if isinstance(one.argval, tuple) and one.argval else one.argval


@functools.lru_cache(maxsize=4096)
def paths_set(code: CodeType) -> frozenset[tuple[tuple[str, ...], str]]:
    """The attributes that code sets of what has a name, or how it does: `cache` of (redis, Redis).

    A local variable stands for what it was assigned last.
    """
    found, local = set[tuple[tuple[str, ...], str]](), dict[str, tuple[str, ...]]()
    path: tuple[str, ...] = ()
    module, by_text, text, listed, copied = path, "", "", None, False
    for one in dis.get_instructions(code):
        name = _last(one)
        if one.opname in {"COPY", "PUSH_NULL"}:
            copied = one.opname == "COPY"  # x.n += 1
            continue
        if one.opname == "IMPORT_NAME":
            path = module = (name if listed else name.partition(".")[0],)
        elif one.opname == "IMPORT_FROM":
            path = (*module, name)
        elif one.opname in _STORES:
            local[name], path = path, ()
        elif one.opname in _SETS | _METHODS and path:
            sets = copied or one.opname in _SETS or name in BY_TEXT
            found |= {(path, name)} if sets else set()
            path = (*path, name)
            by_text = name if name in BY_TEXT else by_text
        elif one.opname.startswith("LOAD_"):
            listed, text, by_text = one.argval, by_text, name if name in BY_TEXT else ""
            known = local.get(name, ()) if one.opname.startswith("LOAD_FAST") else (name,)
            path = local.get(name, known) if isinstance(name, str) else ()
        else:
            path = ()
        found |= {(path, text)} if path and text else set()
        copied = False
    inner = (paths_set(one) for one in code.co_consts if isinstance(one, CodeType))
    return frozenset(found.union(*inner))


def texts_in(code: CodeType) -> set[str]:
    """The texts in code: names by which getattr may ask."""
    found = {one for one in code.co_consts if isinstance(one, str)}
    inner = (texts_in(one) for one in code.co_consts if isinstance(one, CodeType))
    return found.union(*inner)


@functools.lru_cache(maxsize=4096)
def bare_names(code: CodeType) -> frozenset[str]:
    """The global names that code uses as such, and not as attributes."""
    used = {one.argval for one in dis.get_instructions(code) if one.opname in _GLOBALS}
    inner = (bare_names(one) for one in code.co_consts if isinstance(one, CodeType))
    return frozenset(used.union(*inner))


@functools.lru_cache(maxsize=4096)
def only_added_to(code: CodeType, *, counts: bool = False) -> frozenset[str]:
    """The names outside of it of which code does nothing but append, update, or ask for the length."""
    appended, other, before = set[str](), set[str](), ""
    for one, following in itertools.pairwise(dis.get_instructions(code)):
        if one.opname in _LOADS | {"LOAD_DEREF"}:
            logs = following.opname in _METHODS and following.argval in _NOTES
            logs |= counts and before == "len" and following.opname in _CALLS
            (appended if logs else other).add(one.argval)
        before = one.argval if one.opname in _LOADS else ""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            known = only_added_to(inner, counts=counts)
            appended |= known
            other |= (bare_names(inner) | set(inner.co_freevars)) - known
    return frozenset(appended - other)
