"""Shared by the traps that judge an AttentionRead: place a violation in the read, at a row or at one table entry."""

from __future__ import annotations

from typing import Any

from g4diag.model import AttentionRead, Severity, Violation


def lacks_expected(read: AttentionRead) -> str:
    """What the read lacks for its pages to be known, "" if they are."""
    if read.expected_BP() is not None:
        return ""
    lacking = ["the requests' pages in full space"] * (read.full_page_table_BP is None)
    if read.expected_space.is_swa and read.mapping is None:
        lacking.append("the full-to-SWA mapping")
    return " and ".join(lacking)


def row_named(read: AttentionRead, row: int) -> str:
    """The request of a row, as well as the read knows it."""
    owners = read.row_owners
    if owners is not None and owners.rids[row] not in ("", "?"):
        return owners.rids[row]
    return read.rids[row] if row < len(read.rids) and read.rids[row] else f"row {row}"


def violation_in(
    read: AttentionRead,
    trap: str,
    severity: Severity,
    summary: str,
    *,
    row: int,
    count: int,
    checked: int,
    **place: Any,
) -> Violation:
    """A violation of `trap` in `row` of the read, with everything the read knows of itself. place: further fields."""
    return Violation(
        trap=trap,
        severity=severity,
        summary=summary,
        worker=read.worker,
        phase=read.phase,
        path=read.path,
        backend=read.backend,
        step=read.step,
        layer_id=read.layer_id,
        layer_kind=read.layer_kind,
        window_left=read.window_left,
        row=row,
        rid=read.rids[row] if row < len(read.rids) else None,
        count=count,
        checked=checked,
        **place,
    )


def violation_at(
    read: AttentionRead,
    trap: str,
    severity: Severity,
    summary: str,
    *,
    row: int,
    column: int,
    count: int,
    checked: int,
) -> Violation:
    """A violation of `trap` at entry (row, column) of the table."""
    expected_BP = read.expected_BP()
    return violation_in(
        read,
        trap,
        severity,
        summary,
        row=row,
        count=count,
        checked=checked,
        column=column,
        value=int(read.page_table_BP[row, column]),
        expected=None if expected_BP is None else int(expected_BP[row, column]),
        bound=read.pool.num_pages,
        value_space=read.table_space,
        expected_space=read.expected_space,
    )
