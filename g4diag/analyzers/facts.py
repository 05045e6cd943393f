"""What a file tells of its case, as facts that a known issue asks for: each a set of words, or not told.

Facts of the first cause come from the view that it was judged in, else from the record a trap left. The shapes in
`shapes/` are facts too, of every view that breaks a claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from g4diag.analyzers.causes import headline
from g4diag.analyzers.explanations import explanations, winner
from g4diag.analyzers.judging import Judged, judge
from g4diag.analyzers.log_words import NAMES as LOG_NAMES
from g4diag.analyzers.log_words import words
from g4diag.analyzers.recorded_violations import recorded
from g4diag.analyzers.shapes.contract import Shape
from g4diag.discover import contributions
from g4diag.model import AttentionRead, Incident, PoolSwap, Violation
from g4diag.signature import backend_name

Facts = Mapping[str, frozenset[str]]
# What a known issue may ask for, besides the shapes. `release` is asked of the matrix.
NAMES = {
    "origin": "who wrote the file",
    "outcome": "defect, clean, or none where nothing could be judged",
    "fired": "traps whose claim is broken",
    "worker": "target or draft",
    "backend": "as sglang's flags name it",
    "phase": "which forward",
    "path": "eager or graph",
    "layer": "full or swa",
    "pool": "the pool that is read: full, swa, draft-own",
    "table": "the space of the table: the backend's label, else what the values say",
    "holds": "the winner of the index_space analyzer",
    "swap": "how a pool swap is broken",
    "call": "the allocator's call",
    "page": "larger or not larger than the layer's window",
    "algorithm": "the speculative algorithm of the server, none without one",
    "page_sizes": "of target and draft: same or differ",
} | LOG_NAMES
# Readings of a table whose ids are those of the other pool, by slot or by page as the read is.
_OF_OTHER_SPACE = ("full-ids", "swa-ids")
# Kernels that one backend alone calls.
_KERNELS = {
    "kernel_mha": "trtllm_mha",
    "fmhasm": "trtllm_mha",
    "trtllm_batch_decode_with_kv_cache": "trtllm_mha",
    "trtllm_batch_context_with_kv_cache": "trtllm_mha",
}


def shapes() -> list[Shape]:
    """Every shape of `shapes/`. Raises ImportError for one that does not load: it is ours."""
    found = contributions("g4diag.analyzers.shapes", "SHAPE")
    for row in found:
        if row.error is not None:
            raise ImportError(f"{row.module}: {row.error}")
    return [row.value for row in found]


def facts_of(incident: Incident) -> Facts:
    """What is known of the case. A fact that is not known has no key."""
    judgement = judge(incident)
    first = headline(incident)
    on_record = () if judgement.checked else recorded(incident)
    found = {"origin": {incident.origin}, "outcome": {"defect" if first else "clean" if judgement.checked else "none"}}
    found["fired"] = {hit.violation.trap for hit in judgement.hits} | {violation.trap for violation in on_record}
    if violation := first.violation if first else next(iter(on_record), None):
        found |= _of_violation(violation, incident)
    reads = [hit.view for hit in judgement.hits if isinstance(hit.view, AttentionRead)]
    if first and isinstance(first.view, AttentionRead):
        found |= _of_read(first.view, incident)
    elif windows := [read for read in reads if read.window_left >= 0]:
        found["page"] = {_page(windows[0])}
    found["swap"] = {_swap(hit) for hit in judgement.hits if isinstance(hit.view, PoolSwap)}
    for shape in shapes():
        found[shape.name] = {shape.told(hit.view, incident) for hit in judgement.hits if isinstance(hit.view, shape.of)}
    for key, values in words(incident).items():
        found[key] = found.get(key, set()) | values
    found |= _of_server(incident)
    return {key: frozenset(values - {""}) for key, values in found.items() if values - {""}}


def _of_violation(violation: Violation, incident: Incident) -> dict[str, set[str]]:
    return {
        "worker": {violation.worker},
        "backend": {_backend(violation, incident)},
        "phase": {"" if violation.layer_id is None else violation.phase},
        "call": {violation.phase if violation.layer_id is None else ""},
        "path": {violation.path},
        "layer": {str(violation.layer_kind or "")},
        "table": {str(violation.value_space or "")} if violation.layer_kind else {""},
    }


def _backend(violation: Violation, incident: Incident) -> str:
    """As the violation names it, a hybrid wrapper's inner one; else the one whose kernel a core dump names."""
    if name := backend_name(violation.backend).rpartition(">")[2]:
        return _KERNELS.get(name, name)
    called = (
        backend for fault in incident.faults for name, backend in _KERNELS.items() if name in fault.kernel.lower()
    )
    return next(called, "")


def _of_read(read: AttentionRead, incident: Incident) -> dict[str, set[str]]:
    """What the table holds by its values, and which table it is: by the backend's label, else by those values."""
    found = {"pool": {read.pool.name}}
    if read.window_left >= 0:
        found["page"] = {_page(read)}
    best = winner(explanations(read, incident))
    if best is None:
        return found
    is_of_other = best.name in _OF_OTHER_SPACE and read.table_space is None and read.expected_BP() is not None
    told = {"table": {str(read.expected_space.other)}} if is_of_other else {}
    return found | {"holds": {best.name}} | told


def _page(read: AttentionRead) -> str:
    """The page beside the window of a sliding layer."""
    return "larger" if read.pool.page_size > read.window_left else "not larger"


def _of_server(incident: Incident) -> dict[str, set[str]]:
    """What the writer told of its server: flags that were set, and the workers that were built."""
    server = incident.context.get("server")
    if not isinstance(server, dict):
        return {}
    flags, target, draft = (server.get(name) for name in ("flags", "target", "draft"))
    found: dict[str, set[str]] = {}
    if isinstance(flags, dict):
        found["algorithm"] = {str(flags.get("speculative_algorithm") or "none").lower()}
    if isinstance(target, dict) and isinstance(draft, dict):
        sizes = [worker.get("page_size") for worker in (target, draft)]
        if all(type(size) is int for size in sizes):
            found["page_sizes"] = {"same" if sizes[0] == sizes[1] else "differ"}
    return found


def _swap(hit: Judged) -> str:
    """How a broken pool swap is broken, in the words of the data file."""
    swap = hit.view
    if not isinstance(swap, PoolSwap):
        return ""
    if swap.moment == "exit":
        return "not-restored"
    if swap.wanted_pool is not None and swap.read_pool != swap.wanted_pool:
        return "child-missed"
    if swap.read_pool_is_swa and swap.swa_state != swap.read_pool:
        return "no-swa-state"
    return "graph-tables" if swap.read_pool_is_swa or swap.frozen_kv else "own-pool-translated"


def told(facts: Facts) -> Iterator[str]:
    """As `worker: draft`, in order."""
    yield from (f"{key}: {', '.join(sorted(values))}" for key, values in sorted(facts.items()))
