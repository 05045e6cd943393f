"""What to do next, for this very case: the cure where it is known, else what would tell more.

SGLANG-ARGUMENTS stands for the server's own, LOG for the log. Flags fit the file: a server that ran without CUDA
graphs, or on which what is asked for was armed already, is not told to do so again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from g4diag.analyzers.causes import headline
from g4diag.analyzers.conclusion import conclude
from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.judging import judge
from g4diag.analyzers.log_next import next_of_log
from g4diag.analyzers.log_words import is_log, told
from g4diag.analyzers.matching import Match, matches
from g4diag.discover import contributions
from g4diag.model import DEVICE_KINDS, Finding, Grade, Incident, Outcome

_SERVE = "g4diag serve --traps {} -- SGLANG-ARGUMENTS"
_STRICT = "G4DIAG_LEVEL=strict "
_WAY = re.compile(
    r"`--patches (?P<patch>[a-z0-9-]+)`"
    r"|\bsglang (?P<release>\d+\.\d+\.\d+)\b"
    r"|`(?P<flag>--(?:disable-[a-z-]+|(?!patches)[a-z-]+ [\w.]+))`"
)
_NO_CURE = ("none", "no fix")


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding whose text is the command; `why` says what it is for. None for a healthy file."""
    if found := _next(incident):
        command, why = found
        yield Finding("next_command", command, Grade.DERIVED, False, {"command": command, "why": why})


def _next(incident: Incident) -> tuple[str, str] | None:
    said = conclude(incident)
    best = next(iter(matches(incident)), None)
    if best is not None and best.is_matched:
        if best.issue.cure.startswith("none needed"):
            return None
        return (_way(best, incident) if _is_of_a_server(incident) else None) or _shown(best)
    compared = (best.issue.next, f"shows {best.issue.id}, which is possible, to compare it with") if best else ("", "")
    if compared[0] and not _is_of_a_server(incident):
        return compared
    return _captured(incident, said.outcome) or (compared if compared[0] else None)


def _captured(incident: Incident, outcome: Outcome) -> tuple[str, str] | None:
    """What would tell more of the same server."""
    first = headline(incident)
    if first is not None:
        group = _group(first.violation.trap)
        return _STRICT + _SERVE.format(group), f"stops the server at the first step where {group} traps fire"
    if outcome is Outcome.HEALTHY:
        return None
    if is_log(incident):
        return next_of_log(incident, outcome)
    if _is_of_the_device(incident) and not incident.faults:
        return _SERVE.format("all").replace("serve", "serve --coredump"), "names the kernel that faulted, and its table"
    if not judge(incident).checked:
        return _STRICT + _SERVE.format("all"), "this file holds nothing to judge; a dump of an armed server does"
    return None


def _is_of_a_server(incident: Incident) -> bool:
    """Whether the evidence is of a real server, which wants its cure; else it is of a case that is shown again."""
    return (is_log(incident) or incident.context.get("live") is True) and not incident.manifest.get("faults")


def _shown(match: Match) -> tuple[str, str]:
    return match.issue.next, f"shows {match.issue.id}, and its cure where there is one"


def _way(match: Match, incident: Incident) -> tuple[str, str] | None:
    """The first way out that the cure's text names, as a command; None where it names none that is left to try."""
    release, name = incident.versions.get("sglang", ""), match.issue.id
    cure = match.issue.cure_for(release)
    for found in () if cure.startswith(_NO_CURE) else _WAY.finditer(cure):
        if (patch := found["patch"]) and patch not in incident.manifest.get("patches", ()):
            return f"g4diag serve --patches {patch} -- SGLANG-ARGUMENTS", f"the cure of {name}"
        if flag := found["flag"]:
            return f"g4diag serve --traps all -- SGLANG-ARGUMENTS {flag}", f"goes around {name}, and watches"
        if (newer := found["release"]) and newer != release:
            of = "LOG" if is_log(incident) and told(incident).facts.flags else "-- SGLANG-ARGUMENTS"
            return f"g4diag doctor --sglang-version {newer} {of}", "judges the release that has the cure"
    return None


def _is_of_the_device(incident: Incident) -> bool:
    return any(event.kind in DEVICE_KINDS for event in incident.log)


def _group(trap: str) -> str:
    """The group the trap is armed by, or its own name."""
    traps = [found.value for found in contributions("g4diag.traps", "TRAP") if found.error is None]
    return next((found.group or found.name for found in traps if found.name == trap), "all")


ANALYZER = Analyzer("next_command", "What to do next?", analyze)
