"""sglang's command line read without sglang: flags and their values, abbreviations and --config files included."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_ALIASES = {
    "model": "model-path",
    "speculative-draft-model": "speculative-draft-model-path",
    "tensor-parallel-size": "tp-size",
    "tp": "tp-size",
}
_CONFIG_LINE = re.compile(r"^([A-Za-z][\w-]*)[ \t]*:([^#\n]*)", re.MULTILINE)


def parse(arguments: Sequence[str], known: Collection[str] = ()) -> dict[str, str]:
    """Flag name without dashes -> its values joined by a space, "" for a switch. The last one given wins, and the
    command line wins over --config. known: flag names of the installed sglang, by which abbreviations are told."""
    given: dict[str, str] = {}
    current: str | None = None
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            current, equals, value = argument[2:].partition("=")
            current = _full_name(current, known)
            given[current] = value
            current = None if equals else current
        elif current is not None:
            given[current] = f"{given[current]} {argument}".strip()
    return _of_config_file(given.get("config")) | given


def known_flags(source: str) -> frozenset[str]:
    """Flag names that the text of one of sglang's files of arguments declares: by name until 0.5.13, since then mostly
    by annotated fields (`page_size: A[...]`), whose flags are made from them."""
    by_name = frozenset(re.findall(r"""^\s*["']--([a-z0-9][\w-]*)["'],?$""", source, re.MULTILINE))
    return by_name | frozenset(_by_field(source)) if ": A[" in source else by_name


def _by_field(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        annotation = node.annotation
        if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "A"):
            continue
        parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else []
        given = next((part for part in parts if isinstance(part, ast.Call) and ast.unparse(part.func) == "Arg"), None)
        said = {keyword.arg: keyword.value for keyword in given.keywords} if given else {}
        if "no_cli" in said or not (given or any(isinstance(part, ast.Constant | ast.JoinedStr) for part in parts[1:])):
            continue
        named = said.get("cli_name")
        names = [named.value if isinstance(named, ast.Constant) else f"--{node.target.id.replace('_', '-')}"]
        aliases = said.get("aliases")
        names += [each.value for each in getattr(aliases, "elts", ()) if isinstance(each, ast.Constant)]
        yield from (str(name).removeprefix("--") for name in names if str(name).startswith("--"))


def model_config(path: str | None, environ: Mapping[str, str] = os.environ) -> Mapping[str, Any] | None:
    """config.json of a model given as a folder, or as a name whose download is in the Hugging Face cache; else None."""
    if not path:
        return None
    hub = environ.get("HF_HUB_CACHE") or os.path.join(environ.get("HF_HOME", "~/.cache/huggingface"), "hub")
    cached = Path(hub).expanduser() / f"models--{path.replace('/', '--')}" / "snapshots"
    for file in [Path(path).expanduser() / "config.json", *sorted(cached.glob("*/config.json"))]:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return found if isinstance(found, dict) else None
    return None


def _full_name(name: str, known: Collection[str]) -> str:
    """As argparse: an unambiguous beginning stands for the whole."""
    if name not in known and name not in _ALIASES:
        longer = [flag for flag in known if flag.startswith(name)]
        name = longer[0] if len(longer) == 1 else name
    return _ALIASES.get(name, name)


def _of_config_file(path: str | None) -> dict[str, str]:
    """Top-level scalars of a YAML file, as sglang merges them; unreadable: none, sglang will say so itself."""
    if not path:
        return {}
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = ((name.replace("_", "-"), value.strip().strip("\"'")) for name, value in _CONFIG_LINE.findall(text))
    return {_ALIASES.get(name, name): "" if value == "true" else value for name, value in pairs if value != "false"}
