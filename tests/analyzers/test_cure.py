"""The cure named is the one that holds for what was broken."""

from __future__ import annotations

from dataclasses import replace

from g4diag.analyzers.cure import analyze
from g4diag.model import Grade, IndexSpace, PoolSwap
from tests import samples


def test_a_full_table_on_an_swa_layer_is_the_frozen_kv_swa_bug() -> None:
    (finding,) = analyze(samples.faulty_incident())
    assert "patch-e" in finding.text and "#27491" in finding.text and finding.grade is Grade.DERIVED


def test_a_table_of_which_neither_label_nor_values_tell_is_a_guess() -> None:
    incident = samples.faulty_incident()
    reads = tuple(replace(read, table_space=None, full_page_table_BP=None) for read in incident.reads)
    (finding,) = analyze(replace(incident, reads=reads, swaps=()))
    assert finding.grade is Grade.GUESS


def test_a_swap_that_missed_the_wrappers_children_names_the_wrapper_patch() -> None:
    swap = PoolSwap("frozen_kv_target_view", "enter", "B", "draft:P", False, None, True, wanted_pool="target:SWAKVPool")
    (finding,) = analyze(replace(samples.faulty_incident(), swaps=(swap,)))
    assert "hybrid-wrapper-pool-swap" in finding.text


def test_a_translated_table_on_a_full_pool_is_the_mirror_bug() -> None:
    incident = samples.faulty_incident()
    own = replace(incident.reads[0].pool, name="draft-own", space=IndexSpace.FULL_PAGE)
    reads = tuple(replace(read, table_space=IndexSpace.SWA_PAGE, pool=own) for read in incident.reads)
    (finding,) = analyze(replace(incident, reads=reads, swaps=()))
    assert "#25103" in finding.text


def test_a_healthy_incident_needs_no_cure() -> None:
    assert list(analyze(replace(samples.faulty_incident(), reads=(), swaps=()))) == []
