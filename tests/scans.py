"""Where the tests look for aliases of a hooked function: not in packages that know nothing of sglang.

Splicing a hook in, and out, goes through every name of every module: 190,000 of them in 6,000 modules once sglang is
imported, which was a third of this suite's time. tests/hooks look everywhere, and hold FOREIGN to its word.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

from g4diag.hooks import aliases

# Top-level packages with many names, which import neither sglang nor us.
FOREIGN = frozenset(
    {
        "IPython",
        "PIL",
        "aiohttp",
        "anyio",
        "compressed_tensors",
        "cuda",
        "httpx",
        "huggingface_hub",
        "hypothesis",
        "mistral_common",
        "mpmath",
        "networkx",
        "numpy",
        "openai",
        "plotly",
        "pydantic",
        "pygments",
        "pynvml",
        "requests",
        "rich",
        "scipy",
        "sympy",
        "torch",
        "torchao",
        "torchvision",
        "zmq",
    }
)


class _Looked(dict[str, bool]):
    """Whether a module of this name is looked through."""

    def __missing__(self, name: str) -> bool:
        self[name] = name.partition(".")[0] not in FOREIGN
        return self[name]


class _Modules:
    """`sys.modules` as far as the scan uses it."""

    def __init__(self) -> None:
        self._looked = _Looked()

    def __len__(self) -> int:
        return len(sys.modules)

    def __contains__(self, name: str) -> bool:
        return name in sys.modules

    def values(self) -> list[ModuleType]:
        return [module for name, module in list(sys.modules.items()) if self._looked[name]]


_fewer = SimpleNamespace(modules=_Modules())


def look(*, everywhere: bool) -> None:
    """Where to look from here on."""
    aliases.sys = sys if everywhere else _fewer
