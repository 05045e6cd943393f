"""What traps recorded while the server ran, where the file holds no view to judge again: marks of the flight recorder
and lines of a log. A mark names neither the kind of the layer nor its pool; the recorder's pool sizes may tell them.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from g4diag.model import Incident, IndexSpace, LayerKind, RingRecord, Severity, Violation
from g4diag.verdict import precedence

# As `stack.live` writes them; a text as long as its limit may have been cut in its last word.
_LINE = re.compile(r'g4diag violation (trap=.*|\{"trap": .*)')
_MARK = re.compile(r"(\w{1,64}) (error|warning) seen=\d{1,9} (.*)")
_WORD = re.compile(r"(\w{1,24})=([^\s\"]{1,96})(?=\s)")
_SUMMARY = re.compile(r'summary="([^"]{1,300})"')
# The same of a line that is one JSON object; it may have been cut, so it is not parsed as one.
_JSON_WORD = re.compile(r'"(\w{1,24})": (?:"([^"\\]{1,96})"|(-?\d{1,18}))(?=[,}])')
_JSON_SUMMARY = re.compile(r'"summary": "([^"\\]{1,300})"')
_LINE_LIMIT, _MARK_LIMIT, _KEPT, _READ = 400, 200, 64, 512
_NUMBERS = {
    **{"layer": "layer_id", "window": "window_left", "row": "row", "column": "column", "value": "value"},
    **{"expected": "expected", "low": "low", "bound": "bound", "count": "count", "checked": "checked"},
}
_TEXTS = {"worker": "worker", "phase": "phase", "path": "path", "backend": "backend", "request": "rid"}
_WORDS: dict[str, tuple[str, type[StrEnum]]] = {
    "severity": ("severity", Severity),
    "kind": ("layer_kind", LayerKind),
    "space": ("value_space", IndexSpace),
    "wanted_space": ("expected_space", IndexSpace),
}


def recorded(incident: Incident) -> tuple[Violation, ...]:
    """The violations on record, the one to report first first, with the kind and the spaces that can be derived."""
    sizes = _sizes(incident)
    return tuple(_placed(violation, sizes) for violation in told(incident))


def told(incident: Incident) -> tuple[Violation, ...]:
    """The same as their writer told them, the first _KEPT: a dump's own, else lines of the log before marks, which say
    less."""
    if incident.violations:
        return incident.violations
    found = [_of_line(event.text) for event in incident.log if event.kind == "violation"][:_READ]
    step = -1
    for record in incident.ring:
        # A mark that names no step fell into the one recorded before it.
        step = max(record.step, step)
        found += [_of_mark(record, step)] if record.kind == "violation" and len(found) < 2 * _READ else []
    once: dict[tuple[object, ...], Violation] = {}
    for violation in filter(None, found):
        place = violation.worker, violation.phase, violation.layer_id, violation.row, violation.column
        once.setdefault((violation.trap, *place, violation.value), violation)
    return tuple(sorted(once.values(), key=precedence)[:_KEPT])


def _of_line(text: str) -> Violation | None:
    line = _LINE.search(text)
    if line is None:
        return None
    if line[1].startswith("{"):
        words = {key: said or number for key, said, number in _JSON_WORD.findall(line[1])}
        summary = _JSON_SUMMARY.search(line[1])
    else:
        words = dict(_WORD.findall(line[1] + " " * (len(text) < _LINE_LIMIT)))
        summary = _SUMMARY.search(line[1])
    return _violation(words.get("trap"), words, summary[1] if summary else "")


def _of_mark(record: RingRecord, step: int) -> Violation | None:
    mark = _MARK.fullmatch(record.text)
    if mark is None:
        return None
    # The worker and the phase stand alone, each may be missing: only two of them can be told apart.
    alone = mark[3].partition("layer=")[0].split()
    words = dict(_WORD.findall(mark[3] + " " * (len(record.text) < _MARK_LIMIT))) | {"severity": mark[2]}
    words |= dict(zip(("worker", "phase"), alone, strict=True)) if len(alone) == 2 else {}
    found = _violation(mark[1], words, "")
    return replace(found, step=step) if found and step >= 0 else found


def _violation(trap: str | None, words: dict[str, str], summary: str) -> Violation | None:
    if trap is None:
        return None
    numbers = {_NUMBERS[key]: int(said) for key, said in words.items() if key in _NUMBERS and _is_number(said)}
    texts = {_TEXTS[key]: said for key, said in words.items() if key in _TEXTS}
    found = Violation(trap, Severity.ERROR, summary or "broken, and the record says no more")
    found = replace(found, **numbers, **texts)  # type: ignore[arg-type]
    for key, (name, kind) in _WORDS.items():
        with suppress(ValueError):
            found = replace(found, **{name: kind(words.get(key, "").replace("_", " "))})  # type: ignore[arg-type]
    return found


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,18}", text, re.ASCII) is not None


@dataclass(frozen=True)
class _Sizes:
    """Of the recorder: both pools in tokens, and what every size and free count is a multiple of: whole pages."""

    swa: int
    full: int
    common: int

    def page_size(self, tokens: int, pages: int) -> int | None:
        """Tokens a page, if a pool of so many tokens can have so many pages."""
        size = tokens // pages
        fits = size * pages == tokens and size & (size - 1) == 0 and self.common % size == 0
        return size if fits else None


def _sizes(incident: Incident) -> _Sizes | None:
    step = next((r for r in reversed(incident.ring) if r.swa_size > 0 and r.full_size > 0), None)
    if step is None:
        return None
    counts = [(r.full_size, r.full_free, r.swa_size, r.swa_free) for r in incident.ring]
    return _Sizes(step.swa_size, step.full_size, math.gcd(*(n for those in counts for n in those if n > 0)))


def _placed(violation: Violation, sizes: _Sizes | None) -> Violation:
    """With the pool whose pages end at the bound, where the recorder's sizes leave one; and, for an id past the end of
    the SWA pool, with the full pool, where it is a page of that and no slot of a page's first token."""
    pages = (violation.bound or 0) - 1
    if sizes is None or violation.expected_space or pages < 1 or not violation.trap.startswith("page_"):
        return violation
    swa, full = sizes.page_size(sizes.swa, pages), sizes.page_size(sizes.full, pages)
    if (swa is None) == (full is None):
        return violation
    kind, space = (LayerKind.SWA, IndexSpace.SWA_PAGE) if swa else (LayerKind.FULL, IndexSpace.FULL_PAGE)
    placed = replace(violation, layer_kind=violation.layer_kind or kind, expected_space=space)
    value = violation.value
    if swa is None or value is None or violation.value_space is not None:
        return placed
    is_slot = swa > 1 and value % swa == 0
    is_full_page = pages < value <= sizes.full // swa and not is_slot
    return replace(placed, value_space=IndexSpace.FULL_PAGE) if is_full_page else placed
