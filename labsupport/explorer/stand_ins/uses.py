"""What code does with a value that it draws by chance: does it go by it?"""

import ast
import functools
import linecache
from types import CodeType

__all__ = ["only_slept", "use_of"]

# beside these a number is how long something lasts
_WAITS = frozenset({"ex", "monotonic", "now", "perf_counter", "px", "sleep", "time", "timeout"})
_ORDERS = (ast.Gt, ast.GtE, ast.Lt, ast.LtE)
_MAKES_FEW = (ast.BitAnd, ast.FloorDiv, ast.Mod, ast.RShift)
# what these make of it says as much as it
_SAME = frozenset({"abs", "bytes", "encode", "decode", "float", "from_bytes", "hex", "int", "str"})
_SAME |= {"adler32", "bit_count", "blake2b", "crc32", "digest", "hash", "hexdigest", "md5", "ord"}
_SAME |= {"sha1", "sha256", "sha512", "UUID"}
_FEW = "decides, if it does anything"

_Parents = dict[ast.AST, ast.AST]


@functools.lru_cache(maxsize=1024)
def use_of(code: CodeType, at: int, *, among_few: bool = False) -> str:
    """What code does with what a call at that place gives.

    Args:
        code: of the function that calls.
        at: the instruction.
        among_few: whatever it does, but for waiting so long, it goes by the value.

    Returns:
        "compared" with others, smaller or larger; "decides" otherwise, as one of a few; "returned"; or
        nothing, of a token: it is kept, sent, and compared with what is the same.
    """
    known = _FEW if among_few else ""
    node, parents = _call(code, at)
    return known if node is None else _use(node, parents, known, set())


@functools.lru_cache(maxsize=1024)
def only_slept(code: CodeType, at: int) -> bool:
    """Whether code goes to sleep for as long as a call at that place gives, with no name in between.

    Args:
        code: of the function that calls.
        at: the instruction.
    """
    node, parents = _call(code, at)
    while node is not None and isinstance(above := parents.get(node), ast.BinOp | ast.Call):
        if isinstance(above, ast.Call):
            called = getattr(above.func, "attr", getattr(above.func, "id", ""))
            if called == "sleep" or called not in {"max", "min"}:
                return called == "sleep"
        node = above
    return False


def _call(code: CodeType, at: int) -> tuple[ast.AST | None, _Parents]:
    """The call at a place; none where the source is not to be had."""
    parents = _parents("".join(linecache.getlines(code.co_filename)))
    place = [*code.co_positions()][at // 2]
    found = (one for one in parents if isinstance(one, ast.Call) and place == _place(one))
    return next(found, None), parents


@functools.lru_cache(maxsize=64)
def _parents(source: str) -> _Parents:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a template's, say
        return {}
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _place(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _use(node: ast.AST, parents: _Parents, known: str, seen: set[ast.AST]) -> str:
    if node in seen or _waits(node, parents, known):
        return ""
    seen.add(node)
    above = parents[node]
    match above:
        case ast.Attribute(attr=name):
            call = parents[above]
            if not (isinstance(call, ast.Call) and call.func is above):
                return _use(above, parents, known, seen)
            if name in _SAME:
                return _use(call, parents, known, seen)
            return "decides" if name in {"endswith", "startswith"} else known
        case ast.BinOp(op=op, left=left):
            few = isinstance(op, _MAKES_FEW) and left is node
            return _use(above, parents, "decides" if few else known, seen)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _SAME:
            return _use(above, parents, known, seen)
        case ast.Subscript(value=value) if value is node:
            return _use(above, parents, known, seen)
        case ast.UnaryOp(operand=ast.expr()):
            return _use(above, parents, known, seen)
        case ast.Compare():
            return known or _compared(node, above)
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return _kept(name, above, parents, known, seen)
        case ast.NamedExpr(target=ast.Name(id=name)):
            here = _use(above, parents, known, seen)
            return here or _kept(name, above, parents, known, seen)
        case ast.Expr():
            return ""
        case ast.Return() | ast.Lambda():
            return known or "returned"
    return known


def _compared(node: ast.AST, comparison: ast.Compare) -> str:
    if any(isinstance(op, _ORDERS) for op in comparison.ops):
        return "compared"
    values = (getattr(one, "value", None) for one in (comparison.left, *comparison.comparators))
    said = any(type(value) is int or (type(value) in (bytes, str) and value) for value in values)
    return "decides" if said else ""


def _kept(name: str, at: ast.AST, parents: _Parents, known: str, seen: set[ast.AST]) -> str:
    """What becomes of a variable, in the function that has it."""
    around = at
    while around in parents and not isinstance(around, ast.FunctionDef | ast.AsyncFunctionDef):
        around = parents[around]
    named = [one for one in ast.walk(around) if isinstance(one, ast.Name) and one.id == name]
    uses = [one for one in named if isinstance(one.ctx, ast.Load)]
    if known and any(_waits(one, parents) for one in uses):
        return ""
    return next(filter(None, (_use(one, parents, known, seen) for one in uses)), "")


def _waits(node: ast.AST, parents: _Parents, known: str = "") -> bool:
    """Whether the whole expression names a clock, or how long something lasts; or only has an effect."""
    while isinstance(above := parents.get(node), ast.expr | ast.keyword):
        if isinstance(above, ast.Lambda):
            break
        node = above
    if known == _FEW and isinstance(parents.get(node), ast.Expr):
        return True
    names = (
        getattr(one, "id", getattr(one, "attr", getattr(one, "arg", None)))
        for one in ast.walk(node)
    )
    return not _WAITS.isdisjoint(names)
