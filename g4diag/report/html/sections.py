"""The page's body: first what an engineer asks first, then the pictures, then the rest. Plain HTML throughout."""

from __future__ import annotations

import json
from collections.abc import Sequence

from g4diag import __version__
from g4diag.model import Finding, Inspection
from g4diag.report import words
from g4diag.report.first_screen import first_screen
from g4diag.report.html import log_sections
from g4diag.report.html.markup import escaped, graded, prose, section, table
from g4diag.report.html.pictures import mapping, occupancy, page_tables
from g4diag.report.links import thread, threads_of_cure

_FIRST = "verdict"
_LABELS = {
    "where": "Where",
    "fault": "Whose fault",
    "sure": "How sure",
    "cure": "Cure",
    "also": "Also",
    "next": "Next command",
}
_MOST_DATA = 20_000
# Subjects shown as graded sentences, in this order, with their headings. What is in no list comes after, by its name.
_BEFORE = {
    "on_record": "On record",
    "index_space": "Index space",
    "page_lifetime": "Life of the page",
    "ruled_out": "Ruled out",
}
_AFTER = {
    "signature": "Signature",
    "misattribution": "Where it surfaced",
    "faulting_block": "The block that faulted",
}
_LAST = {"flight_recorder": "Flight recorder", "rejudge": "Claims judged by today's traps", "provenance": "Provenance"}
_SHOWN_APART = {
    _FIRST,
    "known_issues",
    "parts",
    "cure",
    "next_command",
    "nearest_meaning",
    "table_map",
    "mapping_map",
    "occupancy",
    "pools",
    "layer_map",
    "timeline",
    *log_sections.SHOWN,
}


def body(inspection: Inspection) -> str:
    """Header, main and footer."""
    outcome = str(inspection.outcome)
    parts = (
        f'<header><p class="badge {escaped(outcome)}">{escaped(outcome)}</p><p>{escaped(inspection.name)}</p></header>',
        "\n<main>\n",
        _headline(inspection),
        _card(inspection),
        _sentences(inspection, "parts", "What the files say"),
        _evidence(inspection),
        *(_sentences(inspection, subject, title) for subject, title in _BEFORE.items()),
        log_sections.of_log(inspection),
        page_tables(inspection),
        _entries(inspection),
        mapping(inspection),
        occupancy(inspection),
        _pools(inspection),
        _layers(inspection),
        _known_issues(inspection),
        *(_sentences(inspection, subject, title) for subject, title in _AFTER.items()),
        _timeline(inspection),
        *_others(inspection),
        *(_sentences(inspection, subject, title) for subject, title in _LAST.items()),
        _parts(inspection),
        "</main>\n",
        f"<footer><p>Made by g4diag {__version__} from {escaped(inspection.name)} ({escaped(inspection.origin)}). "
        "It holds page ids, lengths and request ids, and no KV bytes; of a log, the lines as they were printed. "
        "Lines are measured, derived from what was measured, or a guess.</p></footer>",
    )
    return "".join(parts)


def _headline(inspection: Inspection) -> str:
    """One sentence; the severity, the tool and the claim stand on a line of their own, and the text stays whole."""
    line = first_screen(inspection).line
    parts = line.split(": ", 3)
    claim = "".join(f"{part}: " for part in parts[:3]) if len(parts) == 4 else ""
    return f'<h1><span class="claim">{escaped(claim)}</span>{escaped(line[len(claim) :])}</h1>\n'


def _card(inspection: Inspection) -> str:
    """Whether a fault was put back on purpose, where, whose fault, how sure, the cure, the issue, what to type."""
    faults = [finding.text for finding in inspection.of("provenance") if finding.data.get("faults")]
    rows = [("Not the released code", f"<strong>{escaped(text)}</strong>") for text in faults]
    for label, text in first_screen(inspection).rows:
        said = _command(text) if label == "next" else _cure(text) if label == "cure" else prose(text)
        rows.append((_LABELS[label], said))
        if label == "cure":
            rows += [("Known issue", _linked(finding)) for finding in inspection.of("known_issues")[:1]]
    if not rows:
        return ""
    return '<dl class="answers">\n' + "".join(f"<dt>{term}</dt><dd>{said}</dd>\n" for term, said in rows) + "</dl>\n"


def _cure(text: str) -> str:
    """With its threads as links."""
    said, at = "", 0
    for start, end, address in threads_of_cure(text):
        link = f'<a href="{escaped(address)}" rel="noreferrer">{escaped(text[start:end])}</a>'
        said, at = f"{said}{prose(text[at:start])}{link}", end
    return said + prose(text[at:])


def _command(text: str) -> str:
    """To be copied, without what is said about it."""
    command, _, note = text.partition(" (")
    if text.startswith("none: "):
        return prose(text)
    return f"<pre><code>{escaped(command)}</code></pre>" + (f"<p>{escaped(note.strip(' ()'))}</p>" if note else "")


def _linked(finding: Finding) -> str:
    """The issue with its threads, which our own data names."""
    data, links = finding.data, []
    for reference in map(str, data.get("references", ())):
        address = thread(reference)
        name = escaped(reference)
        links.append(f'<a href="{escaped(address)}" rel="noreferrer">{name}</a>' if address else name)
    known = f" ({', '.join(links)})" if links else ""
    said = f"{data.get('id', '')}: {data.get('title', finding.text)}"
    return f'{escaped(said)}{known} <span class="muted">({finding.grade})</span>'


def _evidence(inspection: Inspection) -> str:
    lines = [finding for finding in inspection.of(_FIRST) if finding.data.get("line") != "verdict"]
    return section("Evidence", graded(lines))


def _entries(inspection: Inspection) -> str:
    """The first bad entries of each read as a table: what the pictures say on hover."""
    tables = []
    for finding in inspection.of("nearest_meaning"):
        data = finding.data
        if "entries" not in data:
            continue
        columns = ("row", "column", "page", "past the end", "belongs there", "meaning in the other space", "request")
        keys = ("row", "column", "value", "past_the_end", "expected", "meaning", "rid")
        rows = [[entry.get(key) for key in keys] for entry in data["entries"]]
        caption = f"Wrong entries of {words.layer(data)}"
        more = f'<p class="muted">more entries of this read: {data["left_out"]}</p>' if data["left_out"] else ""
        tables.append(f"<h3>{escaped(caption)}</h3>\n" + table(columns, rows, caption, numeric=(0, 1, 2, 3, 4)) + more)
    return section("Wrong entries", "".join(tables))


def _pools(inspection: Inspection) -> str:
    findings = inspection.of("pools")
    pools = [finding.data for finding in findings if "num_pages" in finding.data]
    rows = [(p["name"], p["space"], p["num_pages"], p["page_size"], _percent(p["use"])) for p in pools]
    columns = ("pool", "its ids are", "pages", "tokens a page", "in use")
    shown = table(columns, rows, "Pools", numeric=(2, 3, 4)) if rows else ""
    rest = [finding for finding in findings if "num_pages" not in finding.data]
    return section("Pools", shown + graded(rest))


def _layers(inspection: Inspection) -> str:
    findings = inspection.of("layer_map")
    layers = [layer for finding in findings for layer in finding.data.get("layers", ())]
    columns = ("layer", "kind", "worker", "reads pool", "of ids", "was handed", "wrong reads")
    keys = ("layer_id", "layer_kind", "worker", "pool", "wants", "table")
    rows = [[*(layer[key] for key in keys), f"{layer['bad_reads']} of {layer['reads']}"] for layer in layers]
    shown = table(columns, rows, "Layers", numeric=(0,)) if rows else ""
    return section("Layers", graded(findings) + shown)


def _known_issues(inspection: Inspection) -> str:
    """Each with the releases that have it, as far as the matrix knows."""
    findings = inspection.of("known_issues")
    known = [(str(finding.data["id"]), finding.data.get("affected_releases")) for finding in findings]
    said = "".join(f"<p>{escaped(f'Affected releases of {name}: {where}')}</p>\n" for name, where in known if where)
    return section("Known issue", graded(findings) + said)


def _timeline(inspection: Inspection) -> str:
    """Of several files: what happened when, closed, as it is long."""
    findings = inspection.of("timeline")
    moments = [moment for finding in findings for moment in finding.data.get("moments", ())]
    keys = ("after", "step", "part", "kind", "text")
    rows = [[moment.get(key) for key in keys] for moment in moments]
    shown = table(("seconds", "step", "file", "what", "said"), rows, "Timeline", numeric=(0, 1)) if rows else ""
    closed = f"<details><summary>Moments</summary>\n{shown}</details>\n" if shown else ""
    return section("Timeline", graded(findings) + closed)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _sentences(inspection: Inspection, subject: str, title: str) -> str:
    return section(title, graded(inspection.of(subject)))


def _others(inspection: Inspection) -> list[str]:
    """Subjects this page has no place for: their sentences, and their data as it is."""
    known = {*_BEFORE, *_AFTER, *_LAST, *_SHOWN_APART}
    subjects = dict.fromkeys(finding.subject for finding in inspection.findings if finding.subject not in known)
    return [
        section(subject.replace("_", " ").capitalize(), graded(inspection.of(subject)) + _data(inspection.of(subject)))
        for subject in subjects
    ]


def _data(findings: Sequence[Finding]) -> str:
    held = [finding.data for finding in findings if finding.data]
    if not held:
        return ""
    text = json.dumps(held, indent=1, sort_keys=True)
    cut = f"\n... {len(text) - _MOST_DATA} characters more: see --json" if len(text) > _MOST_DATA else ""
    lines = "\n".join(escaped(line) for line in (text[:_MOST_DATA] + cut).split("\n"))
    return f"<details><summary>Data</summary><pre>{lines}</pre></details>\n"


def _parts(inspection: Inspection) -> str:
    """Of several files: each by itself, closed."""
    shown = "".join(
        f"<details><summary>{escaped(f'{part.name}: {part.outcome}')}</summary>\n{graded(part.findings)}</details>\n"
        for part in inspection.parts
    )
    return section("Files", shown)
