"""The pools over the recorder's last steps: how full at the start, at the peak and at the end, and did one fill.

How far the two index spaces drifted is told from the pools' use: a full slot in use beyond the SWA slots in use has
lost its SWA side, and what is freed on one side only is what parts the two numberings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from g4diag.analyzers.contract import Analyzer
from g4diag.model import Finding, Grade, Incident, RingRecord

_POINTS = 512
_POOLS = ("full", "swa")


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a pool with a size in the ring, then one for the slots without an SWA side. None without steps."""
    steps = [record for record in incident.ring if record.kind == "step" and record.full_size > 0]
    if not steps:
        return
    kept = _thinned(steps)
    for name in _POOLS:
        if any(_is_known(step, name) for step in steps):
            yield _of_pool(name, steps, kept)
    both = [step for step in steps if _is_known(step, "full") and _is_known(step, "swa")]
    if both:
        first, last, most = both[0], both[-1], max(both, key=_one_sided)
        text = (
            f"full slots in use without an SWA side: {_one_sided(first)} at step {first.step}, "
            f"most {_one_sided(most)} at step {most.step}, {_one_sided(last)} at step {last.step}"
        )
        shown = [step for step in kept if _is_known(step, "full") and _is_known(step, "swa")]
        points = {"step": [step.step for step in shown], "slots": [_one_sided(step) for step in shown]}
        named = {
            name: [_one_sided(step), step.step] for name, step in (("first", first), ("most", most), ("last", last))
        }
        why = ("each SWA slot in use is the other side of one full slot in use",)
        yield Finding(
            "occupancy", text, Grade.DERIVED, False, {"line": "one-sided", "points": points} | named, "one-sided", why
        )


def _of_pool(name: str, steps: Sequence[RingRecord], kept: Sequence[RingRecord]) -> Finding:
    known = [step for step in steps if _is_known(step, name)]
    first, last, peak = known[0], known[-1], max(known, key=lambda step: _use(step, name))
    fewest = _free(peak, name)
    refused = last.refused - first.refused if min(first.refused, last.refused) >= 0 else 0
    text = (
        f"{name} pool: {_use(first, name):.1%} in use at step {first.step}, peak {_use(peak, name):.1%} "
        f"at step {peak.step}, {_use(last, name):.1%} at step {last.step}; "
    )
    text += f"full at none of these steps, {fewest} slots free at the peak" if fewest else "it filled"
    text += f"; {refused} allocations were refused" if refused > 0 else ""
    end = steps[-1].time_ns
    shown = [step for step in kept if _is_known(step, name)]
    points = {
        "step": [step.step for step in shown],
        "seconds": [round((step.time_ns - end) / 1e9, 4) for step in shown],
        "use": [round(_use(step, name), 4) for step in shown],
        "mode": [step.mode for step in shown],
        "batch": [step.batch for step in shown],
        "waiting": [step.waiting for step in shown],
    }
    data: dict[str, object] = {
        "line": "pool",
        "pool": name,
        "slots": _size(last, name),
        "filled": not fewest,
        "points": points,
    }
    data |= {"free": fewest, "refused": max(refused, 0)}
    data |= {key: [_use(at, name), at.step] for key, at in (("first", first), ("peak", peak), ("last", last))}
    return Finding("occupancy", text, Grade.MEASURED, False, data, "pool-use")


def _size(step: RingRecord, pool: str) -> int:
    return step.full_size if pool == "full" else step.swa_size


def _free(step: RingRecord, pool: str) -> int:
    return step.full_free if pool == "full" else step.swa_free


def _is_known(step: RingRecord, pool: str) -> bool:
    """-1 is not known, and not none."""
    return _size(step, pool) > 0 and _free(step, pool) >= 0


def _use(step: RingRecord, pool: str) -> float:
    return 1.0 - _free(step, pool) / _size(step, pool)


def _one_sided(step: RingRecord) -> int:
    return max((step.full_size - step.full_free) - (step.swa_size - step.swa_free), 0)


def _thinned(steps: Sequence[RingRecord]) -> list[RingRecord]:
    """At most _POINTS steps: of each slice the one with the fullest SWA pool."""
    wide = -(-len(steps) // _POINTS)
    slices = (steps[at : at + wide] for at in range(0, len(steps), wide))
    return [max(part, key=lambda step: _use(step, "swa") if _is_known(step, "swa") else -1.0) for part in slices]


ANALYZER = Analyzer("occupancy", "How full were the pools over the last steps, and did one fill?", analyze)
