"""Source anchors: short fragments that must occur exactly once in the installed source.

A release number says what was intended, an anchor what is really there: a source build, a fork or a backport is
seen for what it is. Files are found without importing what they hold, so a listing of all patches stays cheap.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

State = Literal["matched", "not found", "ambiguous"]


@dataclass(frozen=True)
class Anchor:
    """target: dotted module, optionally followed by a class, function or method to look in.
    text: a fragment of one line that must occur in it exactly once."""

    target: str
    text: str


@dataclass(frozen=True)
class Pin:
    """An anchor held against a source. count: occurrences. why: what was looked at, or what lacks. there: whether the
    target itself is."""

    anchor: Anchor
    state: State
    count: int
    why: str
    there: bool = True

    @property
    def matched(self) -> bool:
        """The fragment occurs exactly once."""
        return self.state == "matched"


def pin(anchor: Anchor, root: Path | None = None) -> Pin:
    """Look an anchor up. A missing file, class or function is `not found`; nothing is imported or raised.
    root: as in `source_file`."""
    located = source_file(anchor.target, root)
    if located is None:
        where = "installed" if root is None else f"in {root}"
        return Pin(anchor, "not found", 0, f"no module of {anchor.target} is {where}", there=False)
    path, inside = located
    text = path.read_text(encoding="utf-8")
    body = _segment(text, inside)
    if body is None:
        return Pin(anchor, "not found", 0, f"{path.name} has no {'.'.join(inside)}", there=False)
    count = body.count(anchor.text)
    state: State = "matched" if count == 1 else "ambiguous" if count else "not found"
    return Pin(anchor, state, count, f"{anchor.text!r} occurs {count} times in {anchor.target}")


def source_file(target: str, root: Path | None = None) -> tuple[Path, tuple[str, ...]] | None:
    """Source file of a dotted target and the names left over inside it; None when there is no such module.
    root: a folder that packages stand in, such as an unpacked wheel; None: what is installed."""
    top, *rest = target.split(".")
    if root is not None:
        return _descend(root / top, tuple(rest)) if (root / top).is_dir() else None
    # Only the top-level spec: find_spec on a submodule would import every parent package.
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        return (Path(spec.origin), tuple(rest)) if spec.origin and Path(spec.origin).is_file() else None
    for folder in spec.submodule_search_locations:
        if located := _descend(Path(folder), tuple(rest)):
            return located
    return None


def has_module(name: str) -> bool:
    """Whether a module or package of exactly that dotted name is installed."""
    found = source_file(name)
    return found is not None and not found[1]


def _descend(folder: Path, names: tuple[str, ...]) -> tuple[Path, tuple[str, ...]] | None:
    if names:
        # A package hides a module of the same name, as it does for the import system.
        if (folder / names[0]).is_dir() and (located := _descend(folder / names[0], names[1:])):
            return located
        module = folder / f"{names[0]}.py"
        if module.is_file():
            return module, names[1:]
    init = folder / "__init__.py"
    return (init, names) if init.is_file() else None


@lru_cache(maxsize=8)
def _parsed(text: str) -> ast.Module:
    # A scenario pins a dozen anchors in three or four files of thousands of lines.
    return ast.parse(text)


def _segment(text: str, inside: tuple[str, ...]) -> str | None:
    """Source of the class or function `inside` names, the whole text if it names none."""
    if not inside:
        return text
    scopes = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    body = _parsed(text).body
    for name in inside:
        node = next((node for node in body if isinstance(node, scopes) and node.name == name), None)
        if node is None:
            return None
        body = node.body
    assert node is not None
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
