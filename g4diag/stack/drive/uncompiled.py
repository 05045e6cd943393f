"""torch's compiler left out of a process that compiles nothing.

sglang's modules decorate with `torch.compile` and `torch.compiler.disable` as they are imported, and the first of each
imports torch._dynamo and torch._inductor, more than all of sglang's memory pools. With TORCH_COMPILE_DISABLE, which
`cpu.ENVIRONMENT` sets, what they decorate runs as it was written, but for a function with fullgraph=True,
which newer ones of torch refuse to call uncompiled. Here they return what they were given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def install() -> None:
    """For the rest of this process. Nothing where no torch imports, which whoever needs it says."""
    try:
        import torch
        import torch.compiler
    except ImportError:
        return

    torch.compile = _as_it_is
    torch.compiler.disable = _as_it_is


def _as_it_is(function: Callable[..., Any] | None = None, *args: Any, **options: Any) -> Any:
    """The function itself, or where none is given what returns it, as a decorator with options does."""
    given = options.get("model", options.get("fn", function))
    return _as_it_is if given is None else given
