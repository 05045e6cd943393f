"""Hazards and known bugs of a command line as lines, alike for a server here and for one elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from g4diag.model.doctor import DRAFT_CONFIG, MODEL_CONFIG, THE_GPU, BackendRow, BugRow, HazardRow, OpenHazard

_YES = {True: "yes", False: "no", None: "not known"}
_FOLDER = "FOLDER with its config.json"
GIVE: Mapping[str, str] = {
    THE_GPU: "--gpu, such as sm90",
    MODEL_CONFIG: f"after --: --model-path {_FOLDER}",
    DRAFT_CONFIG: f"after --: --speculative-draft-model-path {_FOLDER}",
}


def possible_named(rows: Sequence[HazardRow]) -> str:
    """Hazards that hold if models are what their names say, for a first line."""
    return f"{', '.join(row.name for row in rows)}: known to be bad if the models are what their names say"


def open_named(rows: Sequence[OpenHazard]) -> str:
    """Hazards that could not be judged, for a first line."""
    return f"{len(rows)} hazard{'' if len(rows) == 1 else 's'} could not be judged"


def to_give(rows: Sequence[OpenHazard], give: Mapping[str, str] = GIVE) -> list[str]:
    """What would have them judged, as it is typed."""
    return [text for fact, text in give.items() if any(fact in row.missing for row in rows)]


def possible_lines(rows: Sequence[HazardRow]) -> Iterator[str]:
    """The same hazards, each told as one that is no more than possible."""
    for row in rows:
        for said in hazard_lines(row):
            yield said if said.startswith(" ") else f"possible: {said}"


def open_lines(rows: Sequence[OpenHazard]) -> Iterator[str]:
    """One line for all that the same would tell."""
    for missing in dict.fromkeys(row.missing for row in rows):
        names = ", ".join(row.name for row in rows if row.missing == missing)
        yield f"not judged, for want of {' and '.join(missing)}: {names}"


def hazard_lines(row: HazardRow) -> list[str]:
    """What was found, why it is bad, and the two ways out."""
    cured = f" [cured by {row.cured_by}]" if row.cured_by else ""
    return [
        f"{row.severity}: {row.name}: {row.found}{cured}",
        f"  {row.why} ({row.reference})",
        f"  {' | '.join(row.ways)}",
    ]


def bug_lines(row: BugRow) -> Iterator[str]:
    """A known bug: what was seen of it, what would tell whether it is met, the cure."""
    seen = f"ran {row.date}" if row.ran else f"read {row.date} in {row.source}"
    references = f" ({', '.join(row.references)})" if row.references else ""
    yield f"{row.name}: {row.title}{references}"
    yield f"  {seen}: {row.why}"
    if row.missing:
        yield f"  not told: {', '.join(row.missing)}"
    yield f"  cure: {row.cure}"


def backend_lines(rows: Sequence[BackendRow]) -> Iterator[str]:
    """What each attention backend may do there, and why."""
    for row in rows:
        yield f"{row.name}: prefill {_YES[row.prefill]}, decode {_YES[row.decode]} ({row.why})"
