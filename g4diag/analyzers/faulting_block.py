"""Is the block that faulted, by a core dump, the row of the batch that a trap named?

Two witnesses who know nothing of each other: the trap read the table on the host, the core dump is the device's own.
Only kernels whose grid is known tell a row, see `dump.core_dump`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from g4diag.analyzers.causes import headline
from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.recorded_violations import told
from g4diag.model import Finding, Grade, Incident, KernelFault

_ROW = re.compile(r"row (\d{1,9}), K/V head (?:\d{1,9}) (if .{0,80}?)?\(")
_PRODUCT = re.compile(r"row x K/V heads \+ K/V head = (\d{1,9})\b")
_SAID = re.compile(r"\brow(?:=|\": )(\d{1,9})\b")


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most one finding; none unless the file holds both a fault with a row and a trap's verdict with one."""
    yield from compared(incident.faults, named_row(incident))


def named_row(incident: Incident) -> int | None:
    """The row that a trap named: judged again, on record, or as a mark of the recorder or of the log."""
    first = headline(incident)
    violations = ([first.violation] if first else []) + [*told(incident)]
    rows = [violation.row for violation in violations if violation.row is not None]
    texts = [text for _, text in incident.notes if text.startswith("verdict ")]
    rows += [int(found[1]) for text in texts if (found := _SAID.search(text))]
    return rows[0] if rows else None


def compared(faults: Sequence[KernelFault], row: int | None) -> Iterator[Finding]:
    """The first fault whose block stands for a row, against the row that was named."""
    fault = next((fault for fault in faults if _ROW.match(fault.meaning) or _PRODUCT.match(fault.meaning)), None)
    if fault is None or row is None:
        return
    if exact := _ROW.match(fault.meaning):
        same = int(exact[1]) == row
        block = f"the faulting block is row {exact[1]}" + (f", {exact[2].strip()}" if exact[2] else "")
    else:
        product = int(_PRODUCT.match(fault.meaning)[1])  # type: ignore[index]
        heads = _heads(product, row)
        same = heads is not None
        block = f"the faulting block is number {product} of rows x K/V heads"
        block += f", row {row} if the layer has {heads}" if heads else ""
    against = "the row that the trap named" if same else f"the trap named row {row}: they differ"
    data = {"row": row, "same": same, "kernel": fault.kernel, "source": fault.source}
    yield Finding("faulting_block", f"{block}: {against} ({fault.source})", Grade.DERIVED, False, data)


def _heads(product: int, row: int) -> str | None:
    """How many K/V heads put block `product` into `row`; None where no number does."""
    fewest, most = product // (row + 1) + 1, product // row if row else 1 << 16
    if fewest > most:
        return None
    return f"{fewest} K/V head{'s' if fewest > 1 else ''}" if fewest == most else f"{fewest} .. {most} K/V heads"


ANALYZER = Analyzer("faulting_block", "Is the block that faulted the row that a trap named?", analyze)
