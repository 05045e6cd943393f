"""How 0.5.18's classes are driven on a CPU: what is not here is as in `at_0_5_19`.

A request holds its row itself; of its lengths, `req.kv` holds those that have slots. Nothing translates KV indices yet.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive import at_0_5_19


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_19, name)


class Held:
    """A request and its `kv` as one: each name is where it is found."""

    __slots__ = ("_req",)

    def __init__(self, req: Any) -> None:
        object.__setattr__(self, "_req", req)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._holder(name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._holder(name), name, value)

    def _holder(self, name: str) -> Any:
        kv = getattr(self._req, "kv", None)
        return kv if kv is not None and hasattr(kv, name) else self._req


def held(req: Any) -> Any:
    return Held(req)


def row_holder() -> Any:
    return SimpleNamespace(req_pool_idx=None)


def begin_runner(runner: Any) -> None:
    runner.model.shared_experts_config = None  # what the model loader leaves on one without experts
