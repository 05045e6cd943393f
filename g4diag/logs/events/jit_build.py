"""What stopped the compiler while a server built one of its kernels, where a known issue asks for it.

sglang raises the whole output of such a build: its first line is the exception, the compiler's own lie below it.
"""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import each
from g4diag.model.log import Chosen, Event

_NO_BIT_CAST = "no std::bit_cast"
# nvcc's own front end, then its host compiler.
_ERROR = re.compile(
    r'[^"\n]{1,400}\(\d{1,9}\): error: namespace "std" has no member (?:function )?"bit_cast"'
    r"|[^'\n\u2018]{1,400}:\d{1,9}:\d{1,9}: error: ['\u2018]bit_cast['\u2019] is not a member of ['\u2018]std['\u2019]"
)


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """The error, in the form of either compiler."""
    return Chosen(**place, key="jit", value=_NO_BIT_CAST) if _ERROR.match(line.text[:1000]) else None


EVENT = EventKind("jit_build", (r"error: namespace \"std\" has", r"bit_cast\W{1,8} is not a member"), each(read))
