"""The verdict line: what, where, value, bound, how far past, in the grammar known from AddressSanitizer.

The first line of every report, of `g4diag repro`, and of what a strict trap raises in a live server.
"""

from __future__ import annotations

import re

from g4diag.model import Severity, Violation

_NUMBER = re.compile(r"(?<![\w.])-?[0-9]{1,20}(?!\w)")
# Claims whose every offending id is outside the bound.
BOUNDS_CLAIMS = {"page_table_stays_in_pool", "slot_inside_allocator"}


def precedence(violation: Violation) -> tuple[bool, ...]:
    """A key to sort violations by, the one to report first first: errors before warnings, past the end of a pool
    before wrong but in range."""
    return (
        violation.severity is not Severity.ERROR,
        not out_of_bounds(violation),
        # Two claims can break on one entry; for an id past the end the claim about bounds says it best.
        violation.trap not in BOUNDS_CLAIMS,
    )


def out_of_bounds(violation: Violation) -> bool:
    """Whether the value itself lies outside low .. bound-1."""
    value, bound = violation.value, violation.bound
    return value is not None and bound is not None and not violation.low <= value < bound


def verdict_line(violation: Violation) -> str:
    """One line: `ERROR: g4diag: <trap>: <who> handed <layer> <value> at <place>: <bound, distance> (<context>)`."""
    return f"{violation.severity.upper()}: g4diag: {violation.trap}: {_what(violation)}{_context(violation)}"


def _what(violation: Violation) -> str:
    if violation.value is None:
        return violation.summary
    if violation.layer_id is None:
        past = past_the_end(violation)
        return violation.summary + (f": {past} past the end" if past else "")
    window = violation.window_left
    kind = f"{violation.layer_kind}, window {window}" if window is not None and window >= 0 else violation.layer_kind
    number = f"layer {violation.layer_id}" if violation.layer_id >= 0 else "a layer of unknown number"
    layer = number + (f" ({kind})" if kind else "")
    # A phase of the draft says itself whose it is.
    named = violation.phase if violation.phase.startswith(f"{violation.worker}_") else ""
    who = named or " ".join(part for part in (violation.worker, violation.phase) if part) or "a forward"
    unit = _unit(violation)
    place = f"token {violation.column}" if violation.row is None else f"row {violation.row} column {violation.column}"
    return f"{who} handed {layer} {unit} {violation.value} at {place}: {_distance(violation)}"


def _unit(violation: Violation) -> str:
    return violation.expected_space.unit if violation.expected_space else "page"


def _distance(violation: Violation) -> str:
    value, bound, low = violation.value, violation.bound, violation.low
    if value is None or bound is None:
        return violation.summary
    if value >= bound:
        return f"{value - bound + 1} past the last of {bound} {_unit(violation)}s"
    if value < low:
        return f"first legal {low}, {low - value} before it"
    inside = f"inside the bound {bound}, so nothing faults"
    if violation.expected is None or violation.expected == value <= 0:
        return f"{inside}, but {violation.summary}"
    if violation.expected == value:
        return f"{inside}; the right {_unit(violation)} for now, from the wrong table"
    if violation.expected <= 0:
        return f"{inside}, but no mapped page belongs there"
    return f"{inside}, but {violation.expected_space or 'page'} {violation.expected} belongs there"


def _context(violation: Violation) -> str:
    step = f"step {violation.step}" if violation.step is not None and violation.step >= 0 else ""
    request = f"request {violation.rid}" if violation.rid else ""
    parts = [part for part in (violation.backend, violation.path, step, request) if part]
    return f" ({', '.join(parts)})" if parts else ""


def past_the_end(violation: Violation) -> int | None:
    """How many ids past the last legal one the value lies, None if it does not."""
    value, bound = violation.value, violation.bound
    return value - bound + 1 if value is not None and bound is not None and value >= bound else None


def before_the_first(violation: Violation) -> int | None:
    """How many ids before the first legal one the value lies, None if it does not."""
    value, low = violation.value, violation.low
    return low - value if value is not None and value < low else None


def numbers_of(summary: str) -> list[int]:
    """The numbers that a trap's own sentence names, in its order."""
    return [int(number) for number in _NUMBER.findall(summary)]
