"""The last moments of all files together, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from g4diag.model import Finding
from g4diag.report.lines import heading, line
from g4diag.report.plain import plain

_MOMENTS, _LINE = 12, 200


def timeline(findings: Sequence[Finding], console: Console) -> None:
    """The last moments of all files together."""
    for finding in findings:
        heading(f"timeline: {finding.text}", console)
        for first, last, count in _runs(finding.data["moments"])[-_MOMENTS:]:
            after = f"+{first['after']:.3f} s" if first["after"] is not None else ""
            step = f"step {first['step']}" if first["step"] is not None else ""
            step += f"..{last['step']}" if count > 1 else ""
            said = f"{count} steps, the last {last['text']}" if count > 1 else last["text"]
            said_line = f"  {after:>12}  {step:<12} {first['part']}: {first['kind']}: {said}"
            line(Text(plain(said_line[:_LINE])), console)


def _runs(moments: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any], int]]:
    """(first, last, how many): steps of one file in a row as one, every other moment by itself."""
    runs: list[tuple[dict[str, Any], dict[str, Any], int]] = []
    for moment in moments:
        before = runs[-1][1] if runs else None
        if before and (moment["kind"], before["kind"], moment["part"]) == ("step", "step", before["part"]):
            runs[-1] = (runs[-1][0], moment, runs[-1][2] + 1)
        else:
            runs.append((moment, moment, 1))
    return runs
