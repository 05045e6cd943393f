"""Launchers that mark each line: MPI's `[1,0]<stderr>:` and `[sh@<0,0>]:`, torchrun's `[rank3]:`, `srun -l`'s `3: `."""

from __future__ import annotations

import re

from g4diag.logs.contract import Mark, Prefix

_HEAD = re.compile(
    r"\[\d{1,5},(\d{1,5})\]<(?:stdout|stderr)>: ?|\[([^\]\s@]{1,80}@<\d{1,5},\d{1,5}>)\]: ?"
    r"|\[(?:rank|default)(\d{1,5})\]: ?|(\d{1,4}): (?=\[\d{4}-|  File |Traceback )"
)


def take(text: str) -> tuple[Mark, str] | None:
    """One writer for each number. It is a global rank, which is not called a tensor-parallel one."""
    found = _HEAD.match(text)
    if found is None:
        return None
    number = found[1] or found[3] or found[4]
    return Mark(process=found[2] or f"rank {number}"), text[found.end() :]


PREFIX = Prefix("launcher", take, "[0")
