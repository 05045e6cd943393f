"""Analyzers, one question a file, and `g4diag inspect` as one library call: open, ask every analyzer, conclude."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from g4diag.analyzers.conclusion import conclude
from g4diag.analyzers.diff import diff_files
from g4diag.analyzers.multi_file import inspect_case
from g4diag.discover import contributions
from g4diag.dump.case import read_case
from g4diag.dump.reader import read_dump
from g4diag.model import Finding, Grade, Incident, Inspection, Outcome

__all__ = ["Inspection", "Outcome", "diff_files", "inspect_file", "inspect_files", "inspect_incident"]


def inspect_file(path: Path) -> Inspection:
    """Read and judge one dump. Raises UsageError or UnsafeInputError as `read_dump` does."""
    return inspect_incident(read_dump(path), path.name)


def inspect_files(paths: Sequence[Path]) -> Inspection:
    """One plain file as `inspect_file`; of several, or of a directory, findings come from the most
    severe file first, and `parts` holds each.

    Raises as `read_case` does."""
    if len(paths) == 1 and not paths[0].is_dir():
        return inspect_file(paths[0])
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    case = read_case(paths)
    first = next((path for path in paths if path.exists()), paths[0])
    return inspect_case(case, f"{first.name}{more}", inspect_incident)


def inspect_incident(incident: Incident, name: str) -> Inspection:
    """The same of an incident in memory. A trap or analyzer that is itself broken rules out a clean outcome."""
    findings: list[Finding] = []
    broken = False
    for found in contributions("g4diag.analyzers", "ANALYZER"):
        if found.error is None:
            findings.extend(found.value.analyze(incident))
        else:
            broken = True
            findings.append(Finding(found.name, f"this analyzer does not load: {found.error}", Grade.MEASURED))
    outcome = conclude(incident).outcome
    if broken and outcome is Outcome.HEALTHY:
        outcome = Outcome.INCONCLUSIVE
    return Inspection(name, incident.origin, outcome, tuple(findings))
