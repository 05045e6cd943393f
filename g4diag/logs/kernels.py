"""What a kernel does, by its name, and whether it touches the KV cache: kernels.toml's reader."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from importlib import resources

_NAME = 2000
_SLIDING = re.compile(r"Sliding|_swa\b|_swa_|window(?:ed)?_att|local_att", re.I)
_DEMANGLED = re.compile(r"^(?:void|__global__ void|static void) ")
_WRAPPER = re.compile(r"cutlass::(?:device_kernel|Kernel2?)")
_MANGLED = re.compile(r"_ZN?K?[\w$]{4,}")


@dataclass(frozen=True)
class Kernel:
    """name: without its arguments. role: what it does, "" if not known. kv: it reads or writes the KV cache or what
    addresses it; None if its name does not tell. sliding: its name says that it runs a sliding layer."""

    name: str
    role: str
    kv: bool | None
    sliding: bool = False


@functools.cache
def _table() -> tuple[tuple[re.Pattern[str], str, bool | None], ...]:
    text = resources.files("g4diag.logs").joinpath("kernels.toml").read_text(encoding="utf-8")
    return tuple(
        (re.compile(row["pattern"], re.I), row["role"], row.get("kv")) for row in tomllib.loads(text)["kernel"]
    )


def kernel(name: str) -> Kernel:
    """Of a name as a debugger, a sanitizer, a profiler or a message prints it."""
    short = short_name(name)
    # CUTLASS launches all of its kernels, attention among them, by one function: the template argument is the kernel.
    told = name if _WRAPPER.fullmatch(short) else short
    for pattern, role, kv in _table():
        if pattern.search(told[:_NAME]):
            return Kernel(short, role, kv, bool(kv) and _SLIDING.search(told) is not None)
    return Kernel(short, "", None)


def short_name(name: str) -> str:
    """Without return type, template arguments and arguments."""
    text = _DEMANGLED.sub("", name[:_NAME].strip())
    if _MANGLED.fullmatch(text):
        return text
    end = min((at for at in (text.find("<"), text.find("(")) if at > 0), default=len(text))
    return text[:end].strip() or text
