"""The real draft loop sees no write locations, whatever happens in it, and the batch keeps its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.anchors import pin
from g4diag.hooks.targets import imported
from g4diag.patches.applying import applied, patches, selected_patches
from g4diag.patches.contract import fit, form_for
from g4diag.settings import Selection

NAME = "eager-draft-out-cache-loc"


class Seen(Exception):
    """Ends the draft loop at its first step, holding what that step was given."""


def drafted(forward_batch: Any) -> Any:
    """`out_cache_loc` as the first thing that the real `draft_forward` calls finds it."""
    from sglang.srt.speculative.frozen_kv_mtp_info import FrozenKVMTPDraftInput

    form = form_for(patches()[NAME])
    assert form is not None
    worker = imported(form.anchors[0].target.rpartition(".")[0])

    def first_call() -> bool:
        raise Seen(forward_batch.out_cache_loc)

    forward_batch.spec_info = FrozenKVMTPDraftInput()
    forward_batch.needs_forward_metadata_init = first_call
    with pytest.raises(Seen) as caught:
        object.__new__(worker).draft_forward(forward_batch)
    return caught.value.args[0]


def test_none_inside_and_restored_outside_also_after_an_exception() -> None:
    stale = torch.arange(22)
    forward_batch = SimpleNamespace(out_cache_loc=stale)
    assert drafted(forward_batch) is stale
    with applied([NAME]):
        assert drafted(forward_batch) is None and forward_batch.out_cache_loc is stale
    assert drafted(forward_batch) is stale


def test_a_captured_batch_that_has_none_keeps_none() -> None:
    forward_batch = SimpleNamespace(out_cache_loc=None)
    with applied([NAME]):
        assert drafted(forward_batch) is None and forward_batch.out_cache_loc is None


def test_all_takes_it_where_the_release_needs_it() -> None:
    needed = fit(patches()[NAME]).state == "available"
    assert (NAME in selected_patches(Selection(everything=True))) is needed


def test_a_release_that_resets_it_by_itself_says_so() -> None:
    """The cure's own line in upstream's draft(): where it stands the status is upstream, elsewhere it is not."""
    patch = patches()[NAME]
    assert patch.upstream_when is not None
    assert (fit(patch).state == "upstream") is pin(patch.upstream_when).matched
