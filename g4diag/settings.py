"""Every G4DIAG_* variable, typed, read once.

An unknown G4DIAG_* name is an error: a misspelt G4DIAG_PATCHES would otherwise run an unpatched server in silence.
The two SGLANG_TRTLLM_MHA_DEBUG* variables of the fork pyc96/sglang arm what they armed there; a G4DIAG_* variable that
is set wins.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from g4diag.errors import UsageError, unwritable
from g4diag.errors import unknown as unknown_name

PREFIX = "G4DIAG_"
FORK_DEBUG, FORK_DEBUG_DIR = "SGLANG_TRTLLM_MHA_DEBUG", "SGLANG_TRTLLM_MHA_DEBUG_DIR"
FORK_TRAPS = ("page_table_stays_in_pool", "slot_inside_allocator")
DEFAULT_DUMP_DIR = Path("g4diag-dumps")  # see dump_dir
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class Selection:
    """`all`, `none`, or names in the order given. everything: `all` was asked for."""

    names: tuple[str, ...] = ()
    everything: bool = False

    def __bool__(self) -> bool:
        return self.everything or bool(self.names)

    @classmethod
    def parse(cls, text: str, source: str) -> Selection:
        """`all` | `none` | `name,name`. source: what to call the text in the UsageError."""
        names = tuple(part.strip() for part in text.split(",") if part.strip())
        if names in ((), ("none",)):
            return cls()
        if names == ("all",):
            return cls(everything=True)
        if mixed := {"all", "none"} & set(names):
            raise UsageError(f"{source}: wanted all, none or name,name, found {sorted(mixed)[0]} among names: {text!r}")
        return cls(names=tuple(dict.fromkeys(names)))


@dataclass(frozen=True)
class Settings:
    """G4DIAG_PATCHES, G4DIAG_TRAPS: `all|none|name,name`. G4DIAG_DUMP_DIR: directory of dumps, None = not given.
    G4DIAG_TRACEBACK: show a traceback with a CLI error. G4DIAG_RAISE: our own errors are raised, not logged.
    G4DIAG_RUN_DIR: where each process of a `g4diag serve` says how arming went, None = nowhere.
    G4DIAG_EXPLICIT_FLAGS: sglang flags the user typed, comma-separated, as `swa-full-tokens-ratio`; None = not known,
    look at the command line. G4DIAG_RECORDER: `on|off`, the flight recorder. G4DIAG_LEVEL: `warn|strict|contain`,
    what a trap that fired does. G4DIAG_SAMPLE: `1/N`, page tables are checked on one eager step of so many; here N.
    G4DIAG_SANDBOX_MIB, G4DIAG_SANDBOX_SECONDS: memory, and processor time for each file, that reading evidence may
    take; the seconds are whole. G4DIAG_FUZZ_DB: where `g4diag fuzz` keeps its finds, `redis://HOST...` or a
    directory; "" = not given. G4DIAG_REQUIRE: `all|none|name,name`, traps without which nothing is armed.
    G4DIAG_METRICS: `on|off`, what traps do is on sglang's /metrics where that is served. G4DIAG_HEALTHY_ACCEPT: tokens
    a verify step in a healthy run, None = not given. G4DIAG_LOG: `text|json`, how a violation is logged."""

    patches: Selection = Selection()
    traps: Selection = Selection()
    dump_dir: Path | None = None
    show_traceback: bool = False
    reraise: bool = False
    run_dir: Path | None = None
    explicit_flags: tuple[str, ...] | None = None
    recorder: bool = False
    level: str = "warn"
    sample: int = 1
    sandbox_mib: int = 960
    sandbox_seconds: int = 3
    fuzz_db: str = ""
    require: Selection = Selection()
    metrics: bool = True
    healthy_accept: float | None = None
    log: str = "text"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read them all. UsageError naming wanted and found for an unknown name or a bad value."""
        found = {name: text.strip() for name, text in environ.items() if name.startswith(PREFIX)}
        if unknown := sorted(set(found) - set(_NAMES)):
            raise unknown_name("variable", unknown[0], _NAMES)
        return cls(
            patches=Selection.parse(found.get("G4DIAG_PATCHES", ""), "G4DIAG_PATCHES"),
            traps=Selection.parse(found.get("G4DIAG_TRAPS", _fork_traps(environ)), "G4DIAG_TRAPS"),
            dump_dir=_given_dump_dir(environ),
            show_traceback=_switch("G4DIAG_TRACEBACK", found),
            reraise=_switch("G4DIAG_RAISE", found),
            run_dir=run_dir(environ),
            explicit_flags=_flags(found.get("G4DIAG_EXPLICIT_FLAGS")),
            recorder=_switch("G4DIAG_RECORDER", found, "on or off"),
            level=_one_of("G4DIAG_LEVEL", found, LEVELS),
            sample=_sample(found.get("G4DIAG_SAMPLE", "")),
            require=Selection.parse(found.get("G4DIAG_REQUIRE", ""), "G4DIAG_REQUIRE"),
            metrics=_switch("G4DIAG_METRICS", {"G4DIAG_METRICS": "on"} | found, "on or off"),
            healthy_accept=_healthy_accept(found.get("G4DIAG_HEALTHY_ACCEPT", "")),
            log=_one_of("G4DIAG_LOG", found, LOGS),
            fuzz_db=_fuzz_db(found.get("G4DIAG_FUZZ_DB", "")),
            sandbox_mib=_positive("G4DIAG_SANDBOX_MIB", found, cls.sandbox_mib),
            sandbox_seconds=_positive("G4DIAG_SANDBOX_SECONDS", found, cls.sandbox_seconds),
        )


_NAMES = (
    "G4DIAG_PATCHES",
    "G4DIAG_TRAPS",
    "G4DIAG_DUMP_DIR",
    "G4DIAG_TRACEBACK",
    "G4DIAG_RAISE",
    "G4DIAG_RUN_DIR",
    "G4DIAG_EXPLICIT_FLAGS",
    "G4DIAG_RECORDER",
    "G4DIAG_LEVEL",
    "G4DIAG_SAMPLE",
    "G4DIAG_SANDBOX_MIB",
    "G4DIAG_SANDBOX_SECONDS",
    "G4DIAG_FUZZ_DB",
    "G4DIAG_REQUIRE",
    "G4DIAG_METRICS",
    "G4DIAG_HEALTHY_ACCEPT",
    "G4DIAG_LOG",
    "G4DIAG_STACKS",  # the Makefile's: where stacks are kept; nothing here reads it
)
LEVELS = ("warn", "strict", "contain")
LOGS = ("text", "json")
REDIS = "redis://"


def raise_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """G4DIAG_RAISE by itself, never an error: `guard` asks while another error is already in the air."""
    return environ.get("G4DIAG_RAISE", "").strip().lower() in _TRUE


def run_dir(environ: Mapping[str, str] = os.environ) -> Path | None:
    """G4DIAG_RUN_DIR by itself, never an error: it is asked for when the other settings are in error too."""
    text = environ.get("G4DIAG_RUN_DIR", "").strip()
    return Path(text) if text else None


def traceback_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """G4DIAG_TRACEBACK by itself, never an error: it is asked for when the other settings are in error too."""
    return environ.get("G4DIAG_TRACEBACK", "").strip().lower() in _TRUE


def dump_dir(given: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Where dumps go: `given`, the command line's, else G4DIAG_DUMP_DIR, else DEFAULT_DUMP_DIR. UsageError if the
    variable names a file."""
    return given or _given_dump_dir(environ) or DEFAULT_DUMP_DIR


def require_writable(folder: Path) -> Path:
    """`folder`, which need not be there yet; nothing is left behind. UsageError if no file can be written in it."""
    try:
        with tempfile.TemporaryDirectory(prefix=".g4diag-", dir=_nearest(folder)):
            return folder
    except (OSError, ValueError) as error:
        raise unwritable(folder, error) from None


def _nearest(folder: Path) -> Path:
    """The folder itself if it is there, else the first above it that is. OSError for one below a file."""
    for place in (folder, *folder.parents):
        try:
            place.lstat()
        except FileNotFoundError:
            continue
        return place
    return folder


def _fork_traps(environ: Mapping[str, str]) -> str:
    return ",".join(FORK_TRAPS) if environ.get(FORK_DEBUG, "").strip().lower() in _TRUE else ""


def _flags(text: str | None) -> tuple[str, ...] | None:
    """Names without leading dashes, words joined by dashes, in the order given."""
    if text is None:
        return None
    names = (part.strip().lstrip("-").replace("_", "-") for part in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _switch(name: str, found: Mapping[str, str], wanted: str = "1 or 0") -> bool:
    text = found.get(name, "").lower()
    if text not in _TRUE + _FALSE:
        raise UsageError(f"{name}: wanted {wanted}, found {found[name]!r}")
    return text in _TRUE


def _one_of(name: str, found: Mapping[str, str], known: tuple[str, ...]) -> str:
    text = found.get(name, "")
    if text.lower() not in ("", *known):
        raise UsageError(f"{name}: wanted {', '.join(known)}, found {text!r}")
    return text.lower() or known[0]


def _healthy_accept(text: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = 0.0
    if value is not None and not 1 <= value <= 1000:
        raise UsageError(f"G4DIAG_HEALTHY_ACCEPT: wanted tokens a verify step, from 1 up, found {text!r}")
    return value


def _sample(text: str) -> int:
    head, _, steps = (text or "1/1").partition("/")
    steps = steps.strip()
    # isdigit alone takes signs that int does not, such as a superscript.
    if head.strip() != "1" or not (steps.isascii() and steps.isdigit() and len(steps) < 10 and int(steps) > 0):
        raise UsageError(f"G4DIAG_SAMPLE: wanted 1/N, N at most 999999999, found {text!r}")
    return int(steps)


def _positive(name: str, found: Mapping[str, str], default: int) -> int:
    text = found.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 9):
        raise UsageError(f"{name}: wanted a whole number from 1 up, found {text!r}")
    return int(text)


def _fuzz_db(text: str) -> str:
    if "://" in text and not text.startswith(REDIS):
        raise UsageError(f"G4DIAG_FUZZ_DB: wanted {REDIS}HOST... or a directory, found {text!r}")
    return text


def _given_dump_dir(environ: Mapping[str, str]) -> Path | None:
    text = environ.get("G4DIAG_DUMP_DIR", environ.get(FORK_DEBUG_DIR, "")).strip()
    if not text:
        return None
    path = Path(os.path.expanduser(text))
    if os.path.exists(path) and not os.path.isdir(path):
        raise UsageError(f"G4DIAG_DUMP_DIR: wanted a directory, found a file: {path}")
    return path
