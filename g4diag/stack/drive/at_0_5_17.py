"""How 0.5.17's classes are driven on a CPU: what is not here is as in `at_0_5_18`. Its backend counts nothing."""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive import at_0_5_18


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_18, name)


def bind_stand_ins() -> None:
    """Nothing that its backend's constructor asks a GPU for."""


def runner_fields(args: Any) -> dict[str, Any]:
    return {**at_0_5_18.runner_fields(args), "dcp_size": 1}


def row_headroom(args: Any) -> int:
    from sglang.srt.mem_cache.allocation_sizing import get_req_to_token_extra_context_len

    return int(get_req_to_token_extra_context_len(args))
