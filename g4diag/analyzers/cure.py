"""Which patch or release cures it, as far as the violation tells.

Each answer rests on one pattern of the bugs in TRIAGE.md, so it is derived, or a guess where the file does not say
which table was handed. The full matching against known issues is still to come.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.judging import judge, lead
from g4diag.model import AttentionRead, Finding, Grade, Incident, IndexSpace, LayerKind, PoolSwap

_SEED = "cure: sglang 0.5.13 or newer (#27491), or `--patches patch-e` on a source build of 2026-05-15 .. 06-02"
_WRAPPER = "cure: `--patches hybrid-wrapper-pool-swap`, or `--speculative-draft-attention-backend trtllm_mha`"
_TWIN = "cure: sglang 0.5.13 or newer (#27491): a draft with its own pool must not be translated (#25103)"


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most one finding, for the violation the verdict names."""
    first = lead(judge(incident).hits)
    if first is None or not isinstance(first.view, AttentionRead):
        return
    read = first.view
    wrapped = any(
        isinstance(swap, PoolSwap) and swap.wanted_pool not in (None, swap.read_pool) for swap in incident.swaps
    )
    if wrapped:
        yield Finding("cure", _WRAPPER, Grade.DERIVED)
    elif read.table_space is IndexSpace.FULL_PAGE and read.expected_space is IndexSpace.SWA_PAGE:
        yield Finding("cure", _SEED, Grade.DERIVED)
    elif read.table_space is IndexSpace.SWA_PAGE and read.expected_space is IndexSpace.FULL_PAGE:
        yield Finding("cure", _TWIN, Grade.DERIVED)
    elif read.layer_kind is LayerKind.SWA:
        yield Finding("cure", _SEED, Grade.GUESS)


ANALYZER = Analyzer("cure", "Which patch or release cures it?", analyze)
