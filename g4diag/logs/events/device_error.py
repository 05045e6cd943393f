"""CUDA errors that no Python exception carries: NCCL's watchdog, a C++ `what()`, a debugger's or a launcher's line.

Only at the place where such a line has it: text that quotes an error is none.
"""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.devices import classify
from g4diag.logs.tellers import each
from g4diag.model.log import DeviceSaid, Event

_ANCHORED = re.compile(
    r"(?:\[PG [^\]]{0,120}\] ?)?(?:\[Rank \d{1,5}\] ?)?Process group watchdog thread terminated with exception: "
    r"|\s*what\(\): "
    r"|(?:\[?(?:ERROR|Error|error|FATAL)\]?:? ?)?CUDA (?:driver |runtime )?error(?: \d{1,4})?\b"
    # Another engine's logger: spans between the level and the message, which is the last of them.
    r"|(?:ERROR|CRITICAL|FATAL) [^\"'`]{0,300}?: CUDA error: (?=[a-z ]{8,60}\Z)"
    r"|Failed: Cuda error |\[?TensorRT-LLM\]?\S{0,40} ?\[?ERROR\]? |Triton Error \[CUDA\]: "
    r"|(?:.{0,60}coredump: )?Detected an exception of type CUDBG_|coredump: CUDBG_EXCEPTION"
    r"|(?:Thread [\d.]{1,12} received signal )?CUDA_EXCEPTION_\d|CUDA_ERROR_[A-Z_]{3,40}\b|cudaError[A-Z]\w{3,40}\b"
)
_KERNEL = re.compile(
    r"(?:CUDA_EXCEPTION_\d{1,3}, [^.]{3,60}?|Warp [A-Z]\w{3,20} \w{3,20}) in (?:kernel )?([\w:<>, *&()~]{3,400})"
)


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """None where the text does not begin as one of these."""
    if _ANCHORED.match(line.text) is None or (device := classify(line.text[:1000])) is None:
        return None
    kernel = _KERNEL.search(line.text[:1000])
    return DeviceSaid(**place, device=device, kernel=kernel[1].strip() if kernel else "")


EVENT = EventKind(
    "device_error",
    (
        "CUDA",
        "cuda[ E]",
        "Cuda[ E]",
        r"what\(\)",
        "watchdog thread",
        "CUDBG_",
        "Triton Error",
        "TensorRT-LLM",
    ),
    each(read),
)
