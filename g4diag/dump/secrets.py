"""Take passwords out of text that others wrote: flags, log lines. Their names stay, their values become `***`."""

from __future__ import annotations

import re
from functools import partial

HIDDEN = "***"
_UNSET = ("None", "True", "False", HIDDEN)
_NAME = (
    r"[\w-]{0,32}?(?:api[-_]?key|secret|passwd|password)|(?:hf|hub|hugging[-_]?face(?:[-_]?hub)?|auth|access|bearer)"
    r"[-_]?token"
)
_RULES = (
    (re.compile(rf"(?i)\b({_NAME})([\'\"]?\s{{0,4}}[=:]\s{{0,4}}[\'\"]?)[^\s\'\",;)\]}}]+"), rf"\1\2{HIDDEN}"),
    (re.compile(rf"(?i)(--(?:{_NAME}))([\s\'\",]{{1,4}})[^\s\'\",;)\]]+"), rf"\1\2{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(\w{1,16}://)[^\s/@]{1,256}@"), rf"\1{HIDDEN}@"),
    (re.compile(r"\b(?:sk|hf|ghp|gho)[-_][\w-]{16,}"), HIDDEN),
)


def masked(text: str) -> str:
    """`text` with the values of keys, tokens, passwords and URL credentials hidden. None, True and False stay."""
    for pattern, put in _RULES:
        text = pattern.sub(partial(_hidden, put), text)
    return text


def _hidden(put: str, found: re.Match[str]) -> str:
    return found[0] if found[0].endswith(_UNSET) else found.expand(put)
