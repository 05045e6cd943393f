"""Whether sglang would load our plugin, and what hides it, from metadata and the environment alone.

sglang says nothing when it does not: a plugin that is shadowed is a server that runs unpatched in silence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata

from g4diag.model.doctor import PluginState

GROUP, PLATFORMS = "sglang.srt.plugins", "sglang.srt.platforms"
NAME, VALUE = "g4diag", "g4diag.plugin:register"
VARIABLE = "SGLANG_PLUGINS"


def plugin_state(environ: Mapping[str, str] = os.environ) -> PluginState:
    """As `sglang.srt.plugins.load_plugins` would decide under this environment."""
    found = [(entry.name, entry.value, _distribution(entry)) for entry in metadata.entry_points(group=GROUP)]
    allowed = {part.strip() for part in environ.get(VARIABLE, "").split(",") if part.strip()}
    others = tuple(sorted({name for name, _, _ in found if name != NAME and (not allowed or name in allowed)}))
    return PluginState(not (why := _hidden(found, allowed, environ)), why, others)


def including_us(environ: Mapping[str, str]) -> str | None:
    """SGLANG_PLUGINS with us among the names; None when it is not set, since then all are loaded."""
    names = [part.strip() for part in environ.get(VARIABLE, "").split(",") if part.strip()]
    if not names:
        return None
    return ",".join(dict.fromkeys([*names, NAME]))


def _hidden(found: list[tuple[str, str, str]], allowed: set[str], environ: Mapping[str, str]) -> str:
    ours = [(value, owner) for name, value, owner in found if name == NAME]
    if not ours:
        return f"no entry point {NAME} in {GROUP}: g4diag is not installed in this environment (pip install)"
    if allowed and NAME not in allowed:
        return f"{VARIABLE} leaves it out: wanted {NAME} in it, found {environ[VARIABLE]!r}"
    # sglang keeps the last of several entry points of one name.
    value, owner = ours[-1]
    if value != VALUE:
        return f"entry point {NAME} of {owner or 'another distribution'}: wanted {VALUE}, found {value}"
    return _excluded(owner, environ)


def _excluded(owner: str, environ: Mapping[str, str]) -> str:
    selected = environ.get("SGLANG_PLATFORM", "").strip()
    unselected = [e for e in metadata.entry_points(group=PLATFORMS) if e.name != selected] if selected else []
    if owner and any(_distribution(entry) == owner for entry in unselected):
        return f"SGLANG_PLATFORM={selected} excludes the distribution {owner}"
    return ""


def _distribution(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else ""
