"""The threads that our own data names, as addresses. Nothing that stands in evidence becomes a link."""

from __future__ import annotations

import re

_FORGES = {"sglang": "sgl-project/sglang", "vllm": "vllm-project/vllm", "flashinfer": "flashinfer-ai/flashinfer"}


def thread(reference: str) -> str | None:
    """The address of "sglang #26957" and the like; None for what is no thread of a forge that we know."""
    found = re.fullmatch(r"(\w+) ?#(\d{1,7})", reference)
    forge = _FORGES.get(found[1]) if found else None
    return f"https://github.com/{forge}/issues/{found[2]}" if found and forge else None
