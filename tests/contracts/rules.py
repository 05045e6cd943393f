"""The house rules as functions from source text to complaints, so that each can be fed a broken example."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

Rule = Callable[[PurePosixPath, str], Iterator[str]]
HEAVY = frozenset(
    {
        *("flashinfer", "msgspec", "prometheus_client", "safetensors", "sgl_kernel", "sglang", "torch"),
        *("transformers", "triton"),
    }
)
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 60
# A folder of contributions -> the one constant each of its files declares.
CONSTANTS = {
    "g4diag/patches": "PATCH",
    "g4diag/traps": "TRAP",
    "g4diag/analyzers": "ANALYZER",
    "g4diag/hazards": "HAZARD",
    "g4diag/logs/prefixes": "PREFIX",
    "g4diag/logs/events": "EVENT",
    "g4diag/fuzz/machines": "MACHINE",
    "g4diag/selftests": "SELFTEST",
    "repro": "SCENARIO",
}

_BASE = frozenset({"errors", "model"})
_MECHANISM = _BASE | {"atomic_write", "discover", "guard", "isolated", "settings"}
_SERVED = _MECHANISM | {"dump", "hooks", "patches", "stack", "traps"}
# Unit (first part below g4diag/) -> units of ours it may import, itself and g4diag/__init__ aside. No import runs up:
# a test holds that the units can be put in an order in which each imports earlier ones only.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "__init__": frozenset({"isolated"}),
    "isolated": frozenset(),
    "errors": frozenset(),
    "model": frozenset(),
    "atomic_write": frozenset(),
    "settings": _BASE,
    "discover": _BASE,
    "guard": _BASE | {"settings"},
    "matrix": _BASE,
    "traps": frozenset({"model"}),
    "verdict": frozenset({"model"}),
    "signature": frozenset({"model"}),
    "hazards": _MECHANISM,
    "hooks": _MECHANISM,
    "logs": _MECHANISM,
    "dump": _MECHANISM | {"logs"},
    "patches": _MECHANISM | {"hooks"},
    "stack": _MECHANISM | {"dump", "hooks", "traps", "verdict"},
    "analyzers": _MECHANISM | {"dump", "logs", "matrix", "signature", "traps", "verdict"},
    "scenario": _SERVED | {"analyzers", "servers"},
    "fuzz": _SERVED | {"signature", "verdict"},
    "selftests": _MECHANISM | {"hooks", "stack", "traps"},
    "doctor": _SERVED | {"analyzers", "hazards", "matrix", "sandbox", "scenario", "selftests", "servers"},
    "servers": _SERVED,
    "serve": _SERVED | {"doctor", "hazards", "sandbox", "servers"},
    "minimize": _SERVED | {"analyzers", "scenario", "signature", "verdict"},
    "sandbox": _MECHANISM | {"analyzers", "dump", "logs", "traps"},
    "report": _MECHANISM | {"analyzers", "dump", "scenario", "traps"},
    "plugin": _SERVED,
    "pytest_plugin": _SERVED | {"verdict"},
    "repro": _SERVED | {"scenario"},
    "cli": _SERVED
    | {
        *("analyzers", "doctor", "fuzz", "minimize", "report", "sandbox", "scenario", "serve", "servers"),
        *("matrix", "signature"),
    },
    "__main__": frozenset({"cli"}),
}
# Units that may import heavy packages, and which; "lazily" is inside a function or under TYPE_CHECKING.
HEAVY_AT_TOP = {"stack": HEAVY}
HEAVY_LAZILY = {"stack": HEAVY, "patches": HEAVY, "repro": HEAVY} | {
    "dump": frozenset({"torch"}),
    "hooks": frozenset({"sglang"}),
    "scenario": frozenset({"torch"}),
}
# Rooms that may name symbols of sglang and its kernels: what a release moves is found in these, and nowhere else.
NAMING = frozenset({"stack", "patches", "repro"})
SYMBOL = re.compile(r"\b(?:sglang|flashinfer|sgl_kernel)(?:\.\w+)+")
# Symbols that files outside them may name, and why.
NAMED_ELSEWHERE = {
    "g4diag/hooks/dispatcher.py": {"sglang.srt.plugins.hook_registry"},  # the one door: sglang's own registry of hooks
    "g4diag/doctor/plugin_state.py": {"sglang.srt.plugins", "sglang.srt.platforms"},  # names of entry-point groups
    "g4diag/servers/plugin_site.py": {"sglang.srt.plugins"},  # the same
    "g4diag/report/markdown.py": {"sglang.check_env"},  # a command of upstream's issue template, told to the reader
}
# Units that import nothing but these and the standard library.
ONLY = {"model": {"numpy"}, "errors": set(), "traps": {"numpy"}}


@dataclass(frozen=True)
class Import:
    """One imported module, dotted and absolute. lazy: not run when the file is imported."""

    module: str
    line: int
    lazy: bool


def unit_of(path: PurePosixPath) -> str:
    """The part of the picture a file belongs to: g4diag/traps/x.py -> traps, repro/x.py -> repro."""
    return "repro" if path.parts[0] == "repro" else PurePosixPath(path.parts[1]).stem


def imports_of(path: PurePosixPath, source: str) -> Iterator[Import]:
    """Every import in a file, relative ones made absolute, `from g4diag import model` as g4diag.model."""
    yield from _imports(ast.parse(source).body, path.parent.parts, lazy=False)


def _imports(nodes: list[ast.AST], package: tuple[str, ...], lazy: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "g4diag" else [base]
            yield from (Import(name, node.lineno, lazy) for name in names)
        elif not (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)):
            # A script's own main guard is no import of the module: a scenario may hand itself to the CLI there.
            inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from _imports(list(ast.iter_child_nodes(node)), package, lazy or inner or typing_only)


def direction(path: PurePosixPath, source: str) -> Iterator[str]:
    """Imports of ours that go against the picture in DESIGN.md."""
    unit = unit_of(path)
    if unit not in MAY_IMPORT:
        yield f"{path}: {unit} is not in the picture; say in rules.py what it may import"
        return
    for found in imports_of(path, source):
        top, *rest = found.module.split(".")
        target = "repro" if top == "repro" else rest[0] if top == "g4diag" and rest else None
        # Names of g4diag/__init__ itself, such as __version__, are anyone's.
        if target is None or target == unit or target not in MAY_IMPORT or target == "__init__":
            continue
        if target not in MAY_IMPORT[unit]:
            yield f"{path}:{found.line}: {unit} imports {target}; allowed: {', '.join(sorted(MAY_IMPORT[unit])) or '-'}"


def heavy(path: PurePosixPath, source: str) -> Iterator[str]:
    """torch, triton, sglang, flashinfer outside stack/, or not lazily where only lazily is allowed."""
    unit = unit_of(path)
    for found in imports_of(path, source):
        top = found.module.split(".")[0]
        if top in HEAVY and top not in (HEAVY_LAZILY if found.lazy else HEAVY_AT_TOP).get(unit, ()):
            how = "inside a function" if found.lazy else "at top level"
            yield f"{path}:{found.line}: {unit} imports {top} {how}"


def names_sglang(path: PurePosixPath, source: str) -> Iterator[str]:
    """Symbols of sglang, flashinfer and sgl_kernel outside the rooms that know releases: imports, lazy ones too, and
    dotted names in strings. A string that is a statement, such as a docstring, is for the reader."""
    if unit_of(path) in NAMING:
        return
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    allowed = NAMED_ELSEWHERE.get(str(path), set())
    for node in ast.walk(tree):
        for name in _named(node) if id(node) not in told else ():
            if name not in allowed:
                yield f"{path}:{node.lineno}: names {name}; only {', '.join(sorted(NAMING))} may: see stack/drive"


def _named(node: ast.AST) -> list[str]:
    """Modules of sglang and its kernels that a node imports, or their symbols in a string."""
    if isinstance(node, ast.Constant):
        return SYMBOL.findall(node.value) if isinstance(node.value, str) else []
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        modules.append(node.module)
    return [module for module in modules if SYMBOL.fullmatch(f"{module}.anything")]


def runs_up(may_import: Mapping[str, Set[str]]) -> Iterator[str]:
    """A ring of units that may import each other, or a unit that is not there."""
    for unit, others in may_import.items():
        if missing := sorted(others - may_import.keys()):
            yield f"{unit} may import {', '.join(missing)}, not in the picture"
    try:
        TopologicalSorter(may_import).prepare()
    except CycleError as error:
        yield f"no order of units: {' <- '.join(error.args[1])}"


def third_party(path: PurePosixPath, source: str) -> Iterator[str]:
    """What model, errors and traps import besides the standard library, numpy and ours."""
    allowed = ONLY.get(unit_of(path))
    for found in imports_of(path, source) if allowed is not None else ():
        top = found.module.split(".")[0]
        if top not in sys.stdlib_module_names and top not in {*allowed, "g4diag"}:
            yield f"{path}:{found.line}: {unit_of(path)} imports {top}; allowed: {', '.join(allowed) or '-'}"


def portable(path: PurePosixPath, source: str) -> Iterator[str]:
    """The scenarios are `repro` in a checkout and `g4diag.repro` in a wheel: an import by either name fails in one."""
    for found in imports_of(path, source):
        if found.module.split(".")[:2] == ["g4diag", "repro"] or found.module.split(".")[0] == "repro":
            yield f"{path}:{found.line}: imports {found.module}; mechanism that scenarios share belongs to scenario/"


def proportions(path: PurePosixPath, source: str) -> Iterator[str]:
    """Files and functions too long to hold in mind."""
    if (lines := source.count("\n")) > MAX_FILE_LINES:
        yield f"{path}: {lines} lines, limit {MAX_FILE_LINES}: make it a folder of the same name"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, limit {MAX_FUNCTION_LINES}, aim 40"


def docstring(path: PurePosixPath, source: str) -> Iterator[str]:
    """A file without its case. An empty __init__.py needs none."""
    if source.strip() and not ast.get_docstring(ast.parse(source)):
        yield f"{path}: no module docstring"


def constant(path: PurePosixPath, source: str, sources: dict[PurePosixPath, str]) -> Iterator[str]:
    """A contribution declares its folder's constant and no other public one. Any other file is mechanism, and so
    imported by something; a contribution that forgot its constant is imported by nothing, as folders are listed."""
    wanted = CONSTANTS[str(path.parent)]
    found = _public_constants(source)
    if wanted in found:
        if extra := sorted(found - {wanted}):
            yield f"{path}: declares {wanted}, and also {', '.join(extra)}; one constant a file, others `_private`"
        return
    module = ".".join(path.with_suffix("").parts)
    if not any(i.module == module for other, text in sources.items() for i in imports_of(other, text) if other != path):
        yield f"{path}: declares no {wanted}, and nothing imports it"


def declares(source: str, name: str) -> bool:
    return name in _public_constants(source)


def _public_constants(source: str) -> set[str]:
    targets: list[ast.expr] = []
    for node in ast.parse(source).body:
        targets += node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AnnAssign) else []
    return {t.id for t in targets if isinstance(t, ast.Name) and re.fullmatch(r"[A-Z][A-Z0-9_]*", t.id)}
