"""The threads that our own data names, as addresses. Nothing that stands in evidence becomes a link."""

from __future__ import annotations

import re
from collections.abc import Iterator

_FORGES = {"sglang": "sgl-project/sglang", "vllm": "vllm-project/vllm", "flashinfer": "flashinfer-ai/flashinfer"}


def thread(reference: str) -> str | None:
    """The address of "sglang #26957" and the like; None for what is no thread of a forge that we know."""
    found = re.fullmatch(r"(\w+) ?#(\d{1,7})", reference)
    forge = _FORGES.get(found[1]) if found else None
    return f"https://github.com/{forge}/issues/{found[2]}" if found and forge else None


def threads_of_cure(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, address) of each bare number in a known issue's cure: sglang's, as our own data has them."""
    for found in re.finditer(r"(?<![\w/])#\d{4,6}\b", text):
        if address := thread(f"sglang {found[0]}"):
            yield found.start(), found.end(), address
