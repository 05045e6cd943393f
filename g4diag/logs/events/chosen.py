"""What the server says of itself as it starts: its release, model, backends, promotions, pools, environment."""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import each
from g4diag.model.log import Chosen, Event

# (key, form); the first group is the value.
_FORMS = (
    ("promoted", re.compile(r".{0,120}?promoting --speculative-algorithm from (\w{1,40} to \w{1,40})")),
    ("draft_architecture", re.compile(r"Detected (\w{1,80}) draft")),
    (
        "attention_backend",
        re.compile(
            r"(?:Attention backend not (?:explicitly )?specified\. )?(?:Use|Using) (\w{1,40}) (?:attention )?"
            r"backend by default"
        ),
    ),
    ("attention_backend", re.compile(r".{0,80}?[Aa]ttention backend(?: is)?(?: set to|:| =|=) ?'?(\w{2,40})")),
    ("attention_backend", re.compile(r".{0,80}?Using (\w{1,40}) backend\b")),
    (
        "sglang",
        re.compile(r"(?:.{0,40}\b)?sglang(?: version)?[ =:]{1,4}v?(\d{1,3}\.\d{1,3}\.\d{1,3}[\w.+]{0,40})", re.I),
    ),
    ("vllm", re.compile(r".{0,120}?\bvLLM (?:API server |engine )?(?:version |\(v)(\d{1,3}\.\d{1,3}[\w.+]{0,40})")),
    ("architecture", re.compile(r"(?:Load weight end\. )?.{0,60}?\btype=(\w{4,80})\b")),
    ("max_total_num_tokens", re.compile(r"(?:.{0,40}?)max_total_num_tokens=(\d{1,15})")),
    ("full_tokens", re.compile(r".{0,80}?full[_ ](?:layer[_ ])?tokens[=:] ?(\d{1,15})")),
    ("swa_tokens", re.compile(r".{0,80}?swa[_ ](?:layer[_ ])?tokens[=:] ?(\d{1,15})")),
    ("graphs", re.compile(r"Capture (?:draft )?cuda graph (begin|end)")),
    (
        "launch_blocking",
        re.compile(r"(?:export |\+ |environ\S{0,20} ?)?.{0,400}?\bCUDA_LAUNCH_BLOCKING['\"]?[=:] ?['\"]?([01])\b"),
    ),
    (
        "gpu",
        re.compile(
            r".{0,80}?\b"
            r"(NVIDIA (?:H100|H200|H20|H800|A100|A800|B200|B300|GB200|GB300|L40S?|RTX [\w ]{2,24})[\w ]{0,20})"
        ),
    ),
)
_HINT = "consider passing CUDA_LAUNCH_BLOCKING"


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """The first form that fits."""
    text = line.text[:1000]
    if _HINT in text or line.text[:1].isspace():
        return None
    for key, form in _FORMS:
        if found := form.match(text):
            return Chosen(**place, key=key, value=found[1].strip())
    return None


EVENT = EventKind(
    "chosen",
    (
        "promoting --spec",
        r"Detected \w{1,80} draft",
        "ttention backend",
        "backend by default",
        r"sglang(?: version)?[ =:]{1,4}v?\d",
        r"vLLM (?:API|engine|\(v)",
        "Load weight end",
        "max_total_num_tokens=",
        "_tokens=",
        "layer tokens",
        "Capture (?:draft )?cuda",
        "LAUNCH_BLOCKING",
        "NVIDIA [A-Z]",
    ),
    each(read),
)
