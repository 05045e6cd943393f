"""The crash signature: one line that is the same wherever the same claim breaks in the same way.

`g4d1:<trap>:<space>:<layer kind>:<backend>:<phase>`. No ids, steps, layer numbers or sizes, so it does not change
with the run, the machine or the pools. space: where the id had to be from, such as `swa-page`. backend: as sglang's
flags name it. A part that is not known is `-`.
"""

from __future__ import annotations

import re

from g4diag.model import Violation

PREFIX = "g4d1"
_PARTS = 6
_MAX_PART = 48
_BACKENDS = {
    "trtllmha": "trtllm_mha",
    "trtllmmla": "trtllm_mla",
    "flashattention": "fa",
    "flashinfer": "flashinfer",
    "triton": "triton",
    "intelamx": "intel_amx",
    "hybrid": "hybrid",
}
_CLASS_TAIL = re.compile(r"(attn|attention)?(multistep)?(draft)?backend$")


def signature(violation: Violation) -> str:
    """The signature of one violation. Pure; the same on every Python."""
    space = str(violation.expected_space or "").replace(" ", "-")
    parts = (violation.trap, space, str(violation.layer_kind or ""), backend_name(violation.backend), violation.phase)
    return ":".join((PREFIX, *map(_part, parts)))


def backend_name(class_name: str) -> str:
    """An attention backend's class as sglang's flags name it; below a wrapper `hybrid>trtllm_mha`."""
    return ">".join(_one_backend(part) for part in class_name.split(">"))


def _one_backend(class_name: str) -> str:
    lowered = class_name.strip().lower()
    bare = _CLASS_TAIL.sub("", lowered)
    if lowered.startswith("flashattention"):
        return "fa"
    return _BACKENDS.get(bare, bare or lowered)


def is_signature(text: str) -> bool:
    """Whether `text` has the form of a signature of this version."""
    return text.startswith(f"{PREFIX}:") and text.count(":") == _PARTS - 1


def _part(text: str) -> str:
    return re.sub(r"[^a-z0-9_>.-]+", "_", text.lower())[:_MAX_PART].strip("_") or "-"
