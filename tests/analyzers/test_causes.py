"""The first cause leads where a link is shown, and no chain is made where none is."""

from __future__ import annotations

import numpy as np
import pytest

from g4diag.analyzers.causes import CAUSES, chain_of, headline
from g4diag.discover import contributions
from g4diag.model import AttentionRead, Incident, IndexSpace, MappingUpdate, PoolSwap, PoolView, Release
from tests import samples

TRAPS = {found.value.name for found in contributions("g4diag.traps", "TRAP")}


def freed(*pages: int, live: tuple[int, ...] = ()) -> Release:
    """SWA pages given back that were not live."""
    pool = PoolView("swa", IndexSpace.SWA_PAGE, samples.PAGE, samples.SWA_PAGES)
    slots = np.concatenate([np.arange(samples.PAGE) + page * samples.PAGE for page in pages])
    return Release(pool, slots, np.array(live, dtype=np.int64))


def traps_of(incident: Incident) -> list[str]:
    chain = chain_of(incident)
    return [] if chain is None else [hit.violation.trap for hit in (chain.first, *(hit for hit, _ in chain.then))]


def wrong_at(page: int) -> AttentionRead:
    read = samples.healthy_read()
    read.page_table_BP[0, samples.LAST] = page
    return read


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.trap)
def test_the_table_names_what_exists(cause: object) -> None:
    assert {cause.trap, *cause.effects} <= TRAPS and cause.why  # type: ignore[attr-defined]
    assert cause.trap not in cause.effects  # type: ignore[attr-defined]


def test_a_swap_is_the_first_cause_and_what_came_of_it_leads() -> None:
    incident = samples.faulty_incident()
    assert traps_of(incident) == ["swa_state_follows_pool", "page_table_stays_in_pool"]
    first = headline(incident)
    assert first is not None and isinstance(first.view, AttentionRead)


def test_a_swap_of_another_backend_is_no_cause() -> None:
    other = PoolSwap("frozen_kv_target_view", "enter", "TritonAttnBackend", "target:SWAKVPool", True, None, True)
    assert traps_of(samples.incident(samples.faulty_read(), swaps=(other,))) == ["page_table_stays_in_pool"]


def test_a_free_of_the_very_page_leads_and_one_of_another_does_not() -> None:
    read = wrong_at(7)
    assert traps_of(samples.incident(read, releases=(freed(7),))) == ["free_of_live_only", "page_table_in_layer_space"]
    assert len(traps_of(samples.incident(read, releases=(freed(9),)))) == 1


def test_a_chain_of_three() -> None:
    slots = np.arange(samples.PAGE) + 7 * samples.PAGE
    update = MappingUpdate("free_swa", slots + 9000, slots * 0, slots)
    incident = samples.incident(wrong_at(7), releases=(freed(7),), mapping_updates=(update,))
    assert traps_of(incident)[0] == "free_of_live_only" and len(traps_of(incident)) >= 2


def test_stale_lengths_come_before_what_is_read_by_them() -> None:
    read = wrong_at(7)
    late = samples.healthy_read(
        page_table_BP=read.page_table_BP, batch_lens_B=np.array([samples.SEQ_LEN + 5]), batch_rows=1
    )
    assert traps_of(samples.incident(late)) == ["table_is_of_this_step", "page_table_in_layer_space"]


def test_nothing_broken_has_no_chain() -> None:
    assert chain_of(samples.incident(samples.healthy_read())) is None
