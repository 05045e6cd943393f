"""An inspection as text: the verdict line first, then what stands behind it. Formats; computes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.text import Text

from g4diag.model import Finding, Inspection
from g4diag.report import words
from g4diag.report.first_screen import first_screen
from g4diag.report.lines import heading, line, table
from g4diag.report.links import thread, threads_of_cure
from g4diag.report.plain import plain
from g4diag.report.strip import WIDTH, bad_strips, legend_line
from g4diag.report.timeline_text import timeline

_STYLE = {
    **dict.fromkeys(("ERROR", "LIKELY", "LEAK", "HARDWARE"), "bold red"),
    **dict.fromkeys(("WARNING", "CRASH", "INCONCLUSIVE"), "bold yellow"),
    "HEALTHY": "bold green",
}
_GRADES = {"measured": "green", "derived": "cyan", "guess": "yellow"}


# What the first screen rests on, in the order in which a person asks.
_WHY = (
    *("on_record", "log_story", "kv_canary", "pool_leak", "sanitizer", "xid_triage", "accept_course", "page_lifetime"),
    *("index_space", "misattribution", "faulting_block", "parts", "log_server"),
)
_HEADS = {"nearest meaning": "nearest meaning: "}
# Subjects with a place of their own, and one that only pictures need.
_ELSEWHERE = {
    *_WHY,
    *("verdict", "error_lines", "ruled_out", "pools", "layer_map", "table_map", "signature", "known_issues", "cure"),
    *("next_command", "timeline", "provenance", "nearest_meaning", "rejudge", "mapping_map"),
}
# Marks of the recorder: the verdict says the one, the other only that it began.
_TOLD_ABOVE = ("violation", "start")
_WRONG = ("error", "likely", "leak", "hardware", "crash")
# Told by the id and the pool's size in the heading; by the verdict's request.
_DERIVED = ("past end", "held by")
_LAYERS, _STRIPS, _MEANINGS, _PARTS, _RID = 8, 4, 3, 6, 16


def render(inspection: Inspection, console: Console, verbose: bool = False) -> None:
    """Print the report to `console`: the first screen, what it rests on, the known issue, the file; `verbose`: all."""
    _first_screen(inspection, console)
    _evidence(inspection, console, verbose)
    _group("ruled out", inspection.of("ruled_out"), console)
    _strips(inspection.of("table_map"), console)
    _named(inspection, console)
    _provenance(inspection, console, verbose)
    if not verbose:
        line(Text("-v shows all of it: pools, layers, entries, the error's lines, timeline, claims", "dim"), console)
        return
    for finding in inspection.of("error_lines"):
        _graded(finding, console)
    _pools(inspection.of("pools"), console)
    _layers(inspection.of("layer_map"), console)
    timeline(inspection.of("timeline"), console)
    _meanings(inspection.of("nearest_meaning"), console)
    _claims(inspection.of("rejudge"), console)
    rest = [f for f in inspection.findings if f.subject not in _ELSEWHERE and f.data.get("kind") not in _TOLD_ABOVE]
    _group("more", rest, console)


def _first_screen(inspection: Inspection, console: Console) -> None:
    found = first_screen(inspection)
    text = plain(found.line)
    line(Text(text, style=_STYLE.get(text.partition(":")[0], "bold")), console)
    for finding in inspection.of("provenance"):
        if "faults" in finding.data:
            line(Text(plain(finding.text), style="bold magenta"), console)
    for label, said in found.rows:
        style = "bold cyan" if label == "next" else "default"
        row = Text(f"{label:<7}", style="bold").append(plain(said), style=style)
        for start, end, address in threads_of_cure(row.plain) if label == "cure" else ():
            row.stylize(f"link {address}", start, end)
        line(row, console)


def _evidence(inspection: Inspection, console: Console, verbose: bool) -> None:
    """What the first screen rests on; of many files the first few, unless all is asked for."""
    found = [(_HEADS.get(str(f.data.get("line")), ""), f) for f in inspection.of("verdict")[1:]]
    for subject in _WHY:
        head = "lifetime: " if subject == "page_lifetime" else ""
        found += [(head, finding) for finding in inspection.of(subject)]
    if found:
        heading("evidence", console)
    left = [] if verbose else _less_telling(inspection.of("parts"))
    for prefix, finding in found:
        if finding not in left:
            _graded(finding, console, prefix)
    if left:
        counts = Counter("say the same" if f.data.get("agrees") else str(f.data["outcome"]) for f in left)
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        line(Text(f"  and {len(left)} more files: {said}; -v shows each"), console)


def _less_telling(parts: Sequence[Finding]) -> list[Finding]:
    """Of many files those that stand in one line: not the one that leads, nor what is said of all; the others as they
    come, what is wrong first."""
    files = [finding for finding in parts if not finding.data.get("leads", True)]
    return sorted(files, key=lambda finding: finding.data["outcome"] not in _WRONG)[_PARTS - 1 :]


def _group(title: str, findings: Sequence[Finding], console: Console) -> None:
    if findings:
        heading(title, console)
    for finding in findings:
        _graded(finding, console)


def _provenance(inspection: Inspection, console: Console, verbose: bool) -> None:
    """The file, what it came to and what it holds as one heading; then what was armed and what the reader notes, of
    many notes on several files the first few."""
    findings = list(inspection.of("provenance"))
    notes = [] if verbose else [f for f in findings if f.data.get("note") and inspection.parts]
    findings = [finding for finding in findings if finding not in notes[_PARTS:]]
    held = "".join(f" ({finding.text})" for finding in findings if "origin" in finding.data)
    heading(f"{inspection.name}: {inspection.outcome}{held}", console)
    for finding in findings:
        if "origin" not in finding.data and "faults" not in finding.data:
            _graded(finding, console)
    if len(notes) > _PARTS:
        line(Text(f"  and {len(notes) - _PARTS} more notes on what was read; -v shows them"), console)


def _named(inspection: Inspection, console: Console) -> None:
    """Signature and known issue; its cure and what to type stand on the first screen."""
    if any(inspection.of(subject) for subject in ("signature", "known_issues", "cure")):
        heading("known issue", console)
    for finding in inspection.of("signature"):
        line(Text(f"  signature  {plain(finding.text)}"), console)
    for finding in inspection.of("known_issues"):
        _graded(finding, console, links=tuple(map(str, finding.data.get("references", ()))))
        if releases := finding.data.get("affected_releases"):
            line(Text(f"            affected releases: {plain(releases)}"), console)
    for finding in inspection.of("cure"):
        _graded(finding, console)


def _graded(finding: Finding, console: Console, prefix: str = "", links: Sequence[str] = ()) -> None:
    """links: threads that our own data names, which a terminal may open."""
    text = Text(f"  {finding.grade:>8}  ", style=_GRADES[finding.grade])
    text.append(prefix + plain(finding.text), style="default")
    for reference in links:
        if (address := thread(reference)) and (at := text.plain.find(f"{reference}")) >= 0:
            text.stylize(f"link {address}", at, at + len(reference))
    line(text, console)


def _pools(findings: Sequence[Finding], console: Console) -> None:
    pools = [finding.data for finding in findings if "num_pages" in finding.data]
    if not findings:
        return
    console.print()
    rows = [(p["name"], p["space"], p["num_pages"], p["page_size"], _percent(p["use"])) for p in pools]
    table(("pool", "ids are", "pages", "tokens a page", "in use"), rows, console, ("tokens a page",))
    for finding in findings:
        if "num_pages" not in finding.data:
            _graded(finding, console)


def _layers(findings: Sequence[Finding], console: Console) -> None:
    for finding in findings:
        layers = finding.data["layers"]
        wrong_first = sorted(layers, key=lambda row: not row["bad_reads"])
        if len(layers) == 1:
            _graded(replace(finding, text=_only_layer(layers[0])), console)
            continue
        console.print()
        table(
            ("layer", "kind", "worker", "reads pool", "of ids", "was handed", "wrong reads"),
            [_layer(row) for row in wrong_first[:_LAYERS]],
            console,
            ("of ids", "worker", "kind"),
        )
        if len(layers) > _LAYERS:
            line(Text(f"  {plain(finding.text)}; {len(layers) - _LAYERS} more layers"), console)


def _layer(row: dict[str, Any]) -> tuple[Any, ...]:
    wrong = f"{row['bad_reads']} of {row['reads']}"
    number = row["layer_id"] if row["layer_id"] >= 0 else None
    return number, _kind(row), row["worker"] or None, row["pool"], row["wants"], row["table"], wrong


def _kind(row: dict[str, Any]) -> str:
    window = f", window {row['window_left']}" if row["window_left"] >= 0 else ""
    return f"{row['layer_kind']}{window}"


def _only_layer(row: dict[str, Any]) -> str:
    whose = f"{row['worker']} " if row["worker"] else ""
    handed = "a table of unknown ids" if row["table"] == "unknown" else f"a table of {row['table']}s"
    reads = f"reads the {row['pool']} pool by {row['wants']}s, was handed {handed}"
    return f"{whose}{words.layer(row | {'layer_kind': _kind(row)})} {reads}: {row['bad_reads']} of {row['reads']} wrong"


def _strips(findings: Sequence[Finding], console: Console) -> None:
    """The worst table's bad rows, one sign a column."""
    for finding in findings[:1]:
        strips = bad_strips(finding.data, _STRIPS, _strip_width(console))
        if not strips:
            return
        data = finding.data
        step = f", step {data['step']}" if data["step"] >= 0 else ""
        legend = legend_line(data, [signs for _, signs in strips])
        console.print()
        line(Text(f"{plain(finding.text)}{step}", style="bold").append(f"   {legend}", style="not bold dim"), console)
        for row, signs in strips:
            line(Text(f"  row {row:<7} column {data['first_column']:<5} {signs}"), console)


def _strip_width(console: Console) -> int:
    """What the row and the column leave of a terminal."""
    return max(16, min(WIDTH, console.width - 30)) if console.is_terminal else WIDTH


def _meanings(findings: Sequence[Finding], console: Console) -> None:
    """The first bad entries of each read, and what each id means in the other space."""
    for finding in findings:
        data = finding.data
        path = f", {data['path']}" if data["path"] else ""
        step = f", step {data['step']}" if data["step"] >= 0 else ""
        unit = words.unit(data)
        pool = f"{data['pool']} pool of {data['num_pages']} {unit}s"
        heading(f"{words.layer(data)} reads the {pool}{path}{step}", console)
        entries = data["entries"][:_MEANINGS]
        table(("row", "column", unit, "past end", "belongs there", "held by"), map(_entry, entries), console, _DERIVED)
        if left_out := data["left_out"] + len(data["entries"]) - len(entries):
            line(Text(f"  more entries of this read: {left_out}"), console)
    if findings and findings[-1].data["left_out_reads"]:
        line(Text(f"  and {findings[-1].data['left_out_reads']} more reads with bad entries"), console)


def _entry(entry: dict[str, Any]) -> tuple[Any, ...]:
    owner = entry["owner"]
    held = f"{_short(owner['rid'])} for positions {owner['first']}..{owner['last']}" if owner else None
    keys = ("row", "column", "value", "past_the_end", "expected")
    return (*(entry[key] for key in keys), held)


def _short(rid: str) -> str:
    return rid if len(rid) <= _RID else f"{rid[:_RID]}.."


def _claims(findings: Sequence[Finding], console: Console) -> None:
    """One line for the claims that are broken, one for those that are not and one for those that this file cannot
    show either way, then what else is said of them."""
    heading("claims judged by today's traps", console)
    named = [finding for finding in findings if "claim" in finding.data and not finding.data["error"]]
    judged = [finding for finding in named if not finding.data["needs"]]
    idle = [finding for finding in findings if "traps" in finding.data]
    for name, broken in (("broken", True), ("not broken", False)):
        claims = [_claim(finding) for finding in judged if bool(finding.data["violations"]) is broken]
        rest = "".join(f"; {finding.text}" for finding in idle) if claims and not broken else ""
        if claims:
            line(Text(f"  measured  {name}: {', '.join(claims)}{rest}"), console)
            idle = [] if rest else idle
    if len(judged) < len(named):
        line(Text(f"  measured  could not be judged in this file: {_unseen(named)}"), console)
    for finding in findings:
        if finding not in named and ("traps" not in finding.data or idle):
            _graded(finding, console)


def _unseen(findings: Sequence[Finding]) -> str:
    """As `one, two (needs x); three (needs y)`."""
    by_need: dict[str, list[str]] = {}
    for finding in findings:
        if finding.data["needs"]:
            by_need.setdefault(finding.data["needs"], []).append(finding.data["trap"])
    return plain("; ".join(f"{', '.join(traps)} (needs {need})" for need, traps in by_need.items()))


def _claim(finding: Finding) -> str:
    name, broken, views = plain(finding.data["trap"]), finding.data["violations"], finding.data["views"]
    if broken:
        return f"{name} (in {broken} of {views} views)"
    return f"{name} (judged in {finding.data['judged']} of {views})" if finding.data["judged"] < views else name


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"
