"""No sentence graded measured without an oracle, and none that its oracle finds false: over healthy and damaged
worlds, over garbage, over the sample dumps. And each oracle finds a sentence false that was made so."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from g4diag.analyzers import inspect_incident
from g4diag.dump.reader import read_dump
from g4diag.model import Finding, Grade, Incident, LogEvent, Outcome, RingRecord, Severity, Violation
from tests import samples, strategies
from tests.oracles import worlds
from tests.oracles.checking import ORACLES, QUOTED_KINDS, QUOTES, Checked, false_in
from tests.oracles.faults import FAULTS
from tests.oracles.sentences import PATTERNS, at, placed

DUMPS = sorted((Path(__file__).parents[2] / "dumps").glob("*.pt"))
HEALTHY, DAMAGED, GARBAGE = 200, 500, 100


def damaged(seed: int) -> tuple[Incident, str]:
    rng = Random(seed)
    incident, names = worlds.incident(worlds.world(rng)), rng.sample(sorted(FAULTS), rng.choice((1, 1, 2, 3)))
    for name in names:
        incident = FAULTS[name](rng, incident)
    return incident, f"{seed}: {', '.join(names)}"


@cache
def files() -> list[tuple[Incident, str]]:
    made = [
        samples.faulty_incident(),
        samples.incident(samples.healthy_read()),
        samples.incident(),
        samples.incident(samples.faulty_read(), unread=("a file that is cut",)),
        samples.incident(samples.healthy_read(), unread=("a file that is cut", "and another")),
    ]
    made += [unmapped(), *on_record(), cleared()]
    return [(read_dump(path), path.name) for path in DUMPS] + [(one, f"sample {n}") for n, one in enumerate(made)]


def cleared() -> Incident:
    """A record of the very table that is in the file, and that holds."""
    read = samples.healthy_read()
    seen = Violation("page_table_stays_in_pool", Severity.ERROR, "x", layer_id=read.layer_id, step=read.step, row=0)
    return samples.incident(read, violations=(seen,))


def unmapped() -> Incident:
    """The pages of a full table have no SWA side."""
    mapping = samples.mapping()
    mapping.full_to_swa_M[:-1] = 0
    return samples.incident(samples.faulty_read(mapping=mapping), mapping=mapping)


def on_record() -> list[Incident]:
    """What a trap recorded, with nothing to judge: a mark of the recorder, and a line of a log."""
    swa, full = (samples.SWA_PAGES - 1) * samples.PAGE, (samples.FULL_PAGES - 1) * samples.PAGE
    step = RingRecord(1, 1, "step", 7, "DECODE", 1, full_size=full, full_free=64, swa_size=swa, swa_free=128)
    text = (
        "page_table_stays_in_pool error seen=1 draft draft_decode layer=4 row=0 column=60 value=188 bound=154 count=3"
    )
    line = "g4diag violation trap=page_table_stays_in_pool severity=error layer=4 row=0 column=60 value=188 bound=154 x"
    return [
        Incident("g4diag-ring", ring=(step, RingRecord(2, 2, "violation", text=text))),
        Incident("server-log", log=(LogEvent("violation", line, "server.log:3"),)),
    ]


def said(incidents: Iterator[tuple[Incident, str]] | list[tuple[Incident, str]]) -> Checked:
    checked = Checked()
    for incident, name in incidents:
        before = len(checked.false)
        checked.look(inspect_incident(incident, "a file"), incident)
        checked.false[before:] = [f"{name}: {what}" for what in checked.false[before:]]
    return checked


def test_nothing_is_said_against_a_healthy_world() -> None:
    for seed in range(HEALTHY):
        incident = worlds.incident(worlds.world(Random(seed)))
        inspection = inspect_incident(incident, "healthy")
        against = [finding.text for finding in inspection.findings if finding.is_defect]
        assert inspection.outcome is Outcome.HEALTHY and not against, f"{seed}: {against}"
        assert [*false_of(incident)] == [], seed


def false_of(incident: Incident) -> Iterator[str]:
    for finding in inspect_incident(incident, "a file").findings:
        yield from (f"{finding.text}: {what}" for what in false_in(finding, incident))


def test_nothing_false_is_said_and_every_oracle_is_asked() -> None:
    checked = said([*files(), *map(damaged, range(DAMAGED))])
    assert not checked.false, "\n".join(checked.false[:20])
    assert not ORACLES.keys() - checked.counts.keys()


@settings(max_examples=GARBAGE, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.incidents)
def test_nothing_false_is_said_of_garbage(incident: Incident) -> None:
    assert [*false_of(incident)] == []


LEGAL = {"stale_tail", "drafts_own_pool"}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_each_fault_damages_some_world_and_a_legal_one_none(name: str) -> None:
    made = (inspect_incident(incident, name).outcome for incident in _with(name))
    assert all(outcome is Outcome.HEALTHY for outcome in made) is (name in LEGAL)


def _with(name: str) -> Iterator[Incident]:
    for seed in range(4 if name in LEGAL else 40):
        rng = Random(seed)
        yield FAULTS[name](rng, worlds.incident(worlds.world(rng)))


def test_what_has_no_oracle_repeats_the_file_and_is_listed() -> None:
    quoted = {finding.subject for incident, _ in files() for finding in _findings(incident) if _is_quote(finding)}
    assert quoted and quoted <= QUOTES.keys()


def _findings(incident: Incident) -> tuple[Finding, ...]:
    return inspect_incident(incident, "a file").findings


def _is_quote(finding: Finding) -> bool:
    return finding.grade is Grade.MEASURED and (not finding.kind or finding.kind in QUOTED_KINDS)


@cache
def examples() -> dict[str, list[tuple[Finding, Incident]]]:
    """Some sentences of each kind."""
    found: dict[str, list[tuple[Finding, Incident]]] = {kind: [] for kind in ORACLES}
    for incident, _ in [*files(), *map(damaged, range(DAMAGED // 2))]:
        for finding in _findings(incident):
            if finding.kind in found and len(found[finding.kind]) < 12:
                found[finding.kind].append((finding, incident))
    return found


# Kinds whose sentence has no number in a place of its own: their oracles are held to another file below.
PLACES = {"row", "column", "layer_id"}
WORDS_ALONE = ORACLES.keys() - PATTERNS.keys()


@pytest.mark.parametrize("kind", sorted(PATTERNS))
def test_each_oracle_finds_a_changed_number_false(kind: str) -> None:
    """One number that the sentence names, one more than it is. The text does not help: the arrays have to tell."""
    asked = 0
    for finding, incident in examples()[kind]:
        for path, said_there in placed(finding).items():
            if not said_there.lstrip("-").isdigit():
                continue
            made = (replace(finding, data=_changed(finding.data, path, by)) for by in (1, 1_000_003))
            asked += 1
            near, far = (_is_found_out(changed, incident) for changed in made)
            # The row below may be bad as well.
            assert near or (far and path in PLACES), f"{path} of {finding.text}"
    assert asked


def _is_found_out(changed: Finding, incident: Incident) -> bool:
    try:
        return bool([*ORACLES[changed.kind](changed, incident)])
    except (IndexError, KeyError):
        return True  # a row or column that is not there


def _changed(data: dict[str, Any], path: str, by: int) -> dict[str, Any]:
    made = deepcopy(data)
    *parents, last = path.split("__")
    inner = at(made, "__".join(parents)) if parents else made
    inner[int(last) if isinstance(inner, list) else last] += by
    return made


@pytest.mark.parametrize("kind", sorted(WORDS_ALONE))
def test_each_oracle_of_words_finds_another_file_false(kind: str) -> None:
    """The sentence of one file, said of one in which it does not hold."""
    others = worlds.incident(worlds.world(Random(1))), samples.faulty_incident()
    said_of = examples()[kind]
    assert said_of and any(_is_found_out(finding, other) for finding, _ in said_of for other in others)


def test_a_number_that_is_not_in_the_data_is_seen() -> None:
    incident = samples.faulty_incident()
    finding = next(finding for finding in _findings(incident) if finding.kind == "count")
    assert [*false_in(replace(finding, text=finding.text.replace("3 of 3", "3 of 4")), incident)]


def test_a_measured_sentence_without_an_oracle_is_seen() -> None:
    finding = Finding("pools", "full: no page is lost", Grade.MEASURED)
    assert [*false_in(finding, samples.incident())] == ["a measured sentence without an oracle"]
    assert [*false_in(replace(finding, kind="new"), samples.incident())]
