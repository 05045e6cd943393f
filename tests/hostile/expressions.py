"""Every regular expression of g4diag, found by looking rather than by a list: those that its modules compile when they
are imported or first used, and those written in the middle of its code.

`python tests/hostile/expressions.py` prints them, one JSON line each: pattern, flags, where it is, and whether it is
searched for or only ever matched at one place. A process of its own: `re` is watched from before
the first import, and what another test has cached would be missed.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# These read no evidence, and import what a laptop does not have: rooms that drive or run the stack.
APART = ("g4diag.stack.drive", "g4diag.stack.pairs", "g4diag.stack.kernels", "g4diag.fuzz", "g4diag.minimize")
_TABLES = ("g4diag.logs", "g4diag.analyzers")
_ONE_PLACE = frozenset({"match", "fullmatch"})
_CALLS = frozenset({"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"})


def modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module of g4diag that is looked at."""
    for path in sorted((ROOT / "g4diag").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith(APART) and not name.endswith("__main__"):
            yield name, path


def compiled() -> dict[tuple[str, int], str]:
    """(pattern, flags) -> the module that compiled it, of all that g4diag compiles as it is imported and first used."""
    found: dict[tuple[str, int], str] = {}
    original: Any = re._compile  # type: ignore[attr-defined]

    def watched(pattern: Any, flags: Any) -> Any:
        made = original(pattern, flags)
        frame = sys._getframe(1)
        while frame.f_globals["__name__"] == "re" and frame.f_back is not None:
            frame = frame.f_back
        if (name := frame.f_globals["__name__"]).startswith("g4diag"):
            text = made.pattern if isinstance(made.pattern, str) else made.pattern.decode("latin-1")
            found.setdefault((text, made.flags), name)
        return made

    re._compile = watched  # type: ignore[attr-defined]
    try:
        for name, _ in modules():
            try:
                module = importlib.import_module(name)
            except ImportError as error:
                if (error.name or "").startswith("g4diag"):
                    raise
                continue  # needs the stack
            _first_use(module)
    finally:
        re._compile = original  # type: ignore[attr-defined]
    return found


def _first_use(module: Any) -> None:
    """Tables that are read when first asked for: cached functions without arguments."""
    for value in list(vars(module).values()):
        if hasattr(value, "cache_info") and value.__module__ == module.__name__:
            code = value.__wrapped__.__code__
            if not code.co_argcount and not code.co_kwonlyargcount and module.__name__.startswith(_TABLES):
                value()


def is_searched(module: str, pattern: str) -> bool:
    """Whether the module calls anything but match and fullmatch of it, as far as its text shows."""
    values = vars(sys.modules[module])
    names = {name for name, value in values.items() if isinstance(value, re.Pattern) and value.pattern == pattern}
    ours = {name for name, value in values.items() if isinstance(value, re.Pattern)}
    if any(not name.startswith("_") for name in names):
        return True
    tree = ast.parse(Path(values["__file__"]).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _CALLS - _ONE_PLACE - {"compile"}:
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            if of in names or (not names and of not in ours and of != "re"):
                return True
    return False


def inline() -> Iterator[tuple[str, str, bool]]:
    """(pattern, module:line, whether it is searched for) of those that are written where they are used. One put
    together there is not seen: see `unseen`."""
    for name, call in _calls():
        if isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str):
            assert isinstance(call.func, ast.Attribute)
            yield call.args[0].value, f"{name}:{call.lineno}", call.func.attr not in {*_ONE_PLACE, "compile"}


def unseen() -> list[str]:
    """module:line of patterns that are put together inside a function, where looking does not find them."""
    return [f"{name}:{call.lineno}" for name, call in _calls(inside=True) if not isinstance(call.args[0], ast.Constant)]


def _calls(inside: bool = False) -> Iterator[tuple[str, ast.Call]]:
    for name, path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        roots: list[ast.AST] = [tree]
        if inside:
            roots = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
        for root in roots:
            for node in ast.walk(root):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                    continue
                if isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and node.func.attr in _CALLS:
                    yield name, node


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    rows = {(text, flags): (where, is_searched(where, text)) for (text, flags), where in compiled().items()}
    texts = {text for text, _ in rows}
    for text, where, searched in inline():
        if text not in texts:
            rows[text, int(re.compile(text).flags)] = where, searched
    for (text, flags), (where, searched) in rows.items():
        print(json.dumps([text, flags, where, searched]))
