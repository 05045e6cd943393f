"""A comparison as text: the outcome first, then what diverges first."""

from __future__ import annotations

from g4diag.model import Comparison
from g4diag.report.plain import plain


def render(comparison: Comparison) -> str:
    """One line a finding, the first file's value before the second's."""
    first, second = comparison.names
    head = (
        f"{str(comparison.likeness).upper()}: g4diag: {first} against {second}: {comparison.compared} values compared"
    )
    lines = [f"  {finding.subject:<10} {finding.text}" for finding in comparison.findings]
    return "\n".join(map(plain, [head, *lines]))
