"""An inspection as the text of an issue: the headings that SGLang's bug template asks for, filled from the file.

Evidence stands in code, where a forge links no name and no number, or is escaped. What the file does not hold is left
for the reporter to add, in comments that do not show. No prompt text; of a log only the lines that tell the error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from g4diag import __version__
from g4diag.model import Finding, Inspection
from g4diag.report import words
from g4diag.report.plain import plain

_FORGES = {"sglang": "sgl-project/sglang", "vllm": "vllm-project/vllm", "flashinfer": "flashinfer-ai/flashinfer"}
# What a run is told by; other context is the writer's own, and may be long.
_CONTEXT = ("scenario", "state", "seed", "level", "cause", "status")
_ROWS = 12
_WHY = {
    "on_record": "",
    "log_story": "",
    "kv_canary": "",
    "pool_leak": "",
    "sanitizer": "",
    "xid_triage": "",
    "accept_course": "",
    "index_space": "",
    "page_lifetime": "",
    "ruled_out": "ruled out: ",
    "misattribution": "",
    "faulting_block": "",
}


def render(inspection: Inspection) -> str:
    """Markdown, ending in a line break. The same inspection gives the same bytes."""
    parts = (*_description(inspection), *_reproduction(inspection), *_environment(inspection))
    return "\n\n".join(part for part in parts if part) + "\n"


def code(text: object) -> str:
    """A code span that no backtick in the text can end, for use in a table too."""
    shown = plain(str(text)).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    pad = " " if shown[:1] in ("`", " ") or shown[-1:] in ("`", " ") or not shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def prose(text: object) -> str:
    """Escaped, and no mention, no cross-reference and no link; what stands between backticks is code."""
    # Two in a row are no pair of anyone's who writes prose.
    pieces = [str(text)] if "``" in str(text) else re.split("`([^`]+)`", str(text))
    return "".join(code(piece) if n % 2 else _inert(piece) for n, piece in enumerate(pieces))


def _inert(text: str) -> str:
    shown = re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", plain(text))
    return re.sub(r"([@#]|://|(?i:www)\.)", lambda found: found[0][:1] + "<!-- -->" + found[0][1:], shown)


def _block(lines: Iterable[str]) -> str:
    shown = "\n".join(map(plain, lines))
    fence = "`" * max(3, max(map(len, re.findall("`+", shown)), default=0) + 1)
    return f"{fence}text\n{shown}\n{fence}"


def _description(inspection: Inspection) -> Iterator[str]:
    yield "### Describe the bug"
    faults = [name for finding in inspection.of("provenance") for name in finding.data.get("faults", ())]
    if faults:
        said = ", ".join(map(code, faults))
        yield f"**A fault was put back on purpose when this was recorded: {said}. This is not the released code.**"
    yield f"`g4diag inspect` on {code(inspection.name)} ({code(inspection.origin)}): **{inspection.outcome}**"
    yield _block(_verdict(inspection))
    why = [(head, finding) for subject, head in _WHY.items() for finding in inspection.of(subject)]
    yield "\n".join(f"- {finding.grade}: {head}{code(finding.text)}" for head, finding in why)
    if lines := [finding.text for finding in inspection.of("error_lines")]:
        yield "What the log says of the error:\n\n" + _block(lines)
    yield from _entries(inspection.of("nearest_meaning")[:1])
    yield _pools(inspection.of("pools"))
    yield _leaks(inspection.of("pool_leak"))
    yield from _issue(inspection)
    if inspection.parts:
        yield "\n".join(f"- {code(part.name)}: {part.outcome}" for part in inspection.parts)


def _verdict(inspection: Inspection) -> Iterator[str]:
    for finding in inspection.of("verdict"):
        line = finding.data.get("line")
        head = "nearest meaning: " if line == "nearest meaning" else ""
        yield finding.text if line == "verdict" else f"  {finding.grade}: {head}{finding.text}"


def _entries(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        data = finding.data
        if not data.get("entries"):
            continue
        left_out = data["left_out"] + max(len(data["entries"]) - _ROWS, 0)
        layer, unit = words.layer(data), words.unit(data)
        yield f"{layer[0].upper()}{layer[1:]} reads the {code(data['pool'])} pool of {data['num_pages']} {unit}s:"
        rows = [_entry(entry) for entry in data["entries"][:_ROWS]]
        yield _table(("row", "column", unit, "past the end", "belongs there", "meaning in the other space"), rows)
        yield f"more entries: {left_out}" if left_out else ""


def _entry(entry: dict[str, Any]) -> list[str]:
    numbers = ["-" if entry[key] is None else str(entry[key]) for key in ("row", "column", "value")]
    past, expected = ("-" if entry[key] is None else str(entry[key]) for key in ("past_the_end", "expected"))
    return [*numbers, past, expected, code(entry["meaning"])]


def _pools(findings: Iterable[Finding]) -> str:
    rows = [
        [code(pool["name"]), pool["space"], str(pool["num_pages"]), str(pool["page_size"]), _percent(pool["use"])]
        for pool in (finding.data for finding in findings)
        if "num_pages" in pool
    ]
    return _table(("pool", "its ids are", "pages", "tokens a page", "in use"), rows) if rows else ""


def _leaks(findings: Iterable[Finding]) -> str:
    """The sums of a log's audits, in slots."""
    terms = ("available", "evictable", "protected", "held", "uncached", "total")
    rows = [
        [code(data["pool"]), *(str(data[term]) for term in terms), f"{data['over']:+d}" if data["over"] else "balanced"]
        for data in (finding.data for finding in findings)
    ]
    return _table(("pool", *terms, "over or short"), rows) if rows else ""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _issue(inspection: Inspection) -> Iterator[str]:
    """Signature, what it matches, and the cure."""
    yield "\n".join(f"Signature: {code(finding.text)}" for finding in inspection.of("signature")[:1])
    for finding in inspection.of("known_issues"):
        threads = [_reference(str(reference)) for reference in finding.data.get("references", ())]
        said = f"{finding.data.get('title', finding.text)}; affected: {finding.data.get('affected', 'not known')}"
        yield f"Known issue ({finding.grade}): {prose(said)}" + (f" ({', '.join(threads)})" if threads else "")
        if releases := finding.data.get("affected_releases"):
            yield f"Affected releases: {prose(releases)}"
    for finding in inspection.of("cure"):
        yield f"Cure ({finding.grade}): {prose(finding.text.removeprefix('cure: '))}"


def _reference(text: str) -> str:
    """A thread of a forge we know, which is to be linked; anything else is not."""
    found = re.fullmatch(r"(\w+) ?#(\d{1,7})", text)
    forge = _FORGES.get(found[1]) if found else None
    return f"{forge}#{found[2]}" if found and forge else prose(text)


def _reproduction(inspection: Inspection) -> Iterator[str]:
    yield "### Reproduction"
    context = _provenance(inspection, "context")
    # A command to paste holds nothing that a shell would read as more than a name.
    names = {key: str(context[key]) for key in ("scenario", "state", "seed") if key in context}
    is_ours = "scenario" in names and all(re.fullmatch(r"\w[\w-]{0,63}", name) for name in names.values())
    if is_ours:
        options = "".join(f" --{key} {name}" for key, name in names.items() if key != "scenario")
        yield _block([f"g4diag repro {names['scenario']}{options}"])
    known = [f"- {key}: {code(context[key])}" for key in _CONTEXT if isinstance(context.get(key), str | int)]
    flags = context.get("flags")
    if isinstance(flags, list) and flags:
        named = ", ".join(code(f"--{str(flag).lstrip('-')}") for flag in flags)
        known.append(f"- server flags, as far as the file holds them: {named}")
    for kind in ("patches", "faults", "traps"):
        armed = [name for finding in inspection.of("provenance") for name in finding.data.get(kind, ())]
        known += [f"- armed {kind}: {', '.join(map(code, armed))}"] if armed else []
    known += [f"- {code(finding.text)}" for finding in inspection.of("log_server")]
    is_log = inspection.origin == "server-log"
    untold = "The log does not hold the server's arguments." if is_log else "The file does not say how it came about."
    yield "\n".join(known) or untold
    if not is_ours:
        yield "<!-- Not in the file; please add: the server's command line, the model, and the requests. -->"
    for finding in inspection.of("next_command")[:1]:
        yield "To look further:\n\n" + _block([str(finding.data.get("command") or finding.text)])


def _environment(inspection: Inspection) -> Iterator[str]:
    yield "### Environment"
    versions = _provenance(inspection, "versions")
    yield _block([f"{name}: {version}" for name, version in sorted(versions.items())]) if versions else ""
    yield "From the file." if versions else "The file holds no versions."
    yield (
        "<!-- Please add the output of `python3 -m sglang.check_env`: GPU model and topology, driver and CUDA, "
        "and the packages not listed here. -->"
    )
    held = "the lines of the error as the log printed them, no other text" if inspection.of("error_lines") else ""
    held = held or "no prompt text"
    yield f"Report made by g4diag {__version__}; it holds page ids, lengths and request ids, {held}."


def _provenance(inspection: Inspection, key: str) -> dict[str, Any]:
    return next((finding.data[key] for finding in inspection.of("provenance") if key in finding.data), {})
