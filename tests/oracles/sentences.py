"""How each kind of sentence reads: which number of its data stands where in the text.

A number in the wrong place is as false as a wrong one. A name is the key in `data`, `__` between the parts of a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from g4diag.model import Finding

_NAMED = re.compile(r"<(\w+)>")
# In each sentence <name> stands for that value, and .. for anything.
_TEXTS: dict[str, tuple[str, ...]] = {
    "broken": (
        "..handed layer <layer_id>.. at <ENTRY>: <past_the_end> past the last of <bound> ..",
        "..handed layer <layer_id>.. at <ENTRY>: first legal <low>, <before_the_first> before it..",
        "..handed layer <layer_id>.. <value> at <ENTRY>: inside the bound <bound>, so nothing faults..",
        "..handed layer <layer_id>.. <value> at token <column>: <past_the_end> past the last of <bound> ..",
        "..handed layer <layer_id>.. <value> at token <column>: ..",
        "..row <row>..",
        "..",
    ),
    "healthy": ("HEALTHY: g4diag: <checked> entries, <judged> of <traps> traps apply, nothing broken",),
    "unread": ("..; the <checked> entries that were read hold", ".."),
    "count": ("<count> of <checked> ..",),
    "too": ("<trap> is broken in <views> more view..", "<trap> is broken too, in <views> view.."),
    "clamped": ("..a changed copy was handed, <count> of its live ids are <last>, the last ..",),
    "trap": ("<trap>: could not be judged..", "<trap>: <violations> broken in <judged> views.."),
    "idle": (
        "none of the <count> checks could run: this file holds nothing that they check",
        "<count> more checks found nothing of theirs in this file",
    ),
    "disagrees": ("..it holds in the <judged> views of this file", ".."),
    "meaning": (
        "<value> is the last ..",
        "no .. belongs there, and <value> is what stands for none",
        "<value> is the .. that belongs there..",
        "<value> is the dummy ..",
        "<value> is no .. either: that pool has <beyond> ..",
        "<value> is no ..",
        "<value> as ..; the entry serves positions <serves__0>..<serves__1>; its .. is <other>",
        "<value> as ..; the entry serves positions <serves__0>..<serves__1>",
        "<value> as .. for positions <owner__1>..<owner__2>..; its .. is <other>",
        "<value> as .. for positions <owner__1>..<owner__2>..",
    ),
    "table": (
        "<bad> of <live> live entries.., in <bad_rows> of <table_rows> rows..; the table has <table_columns> columns",
        "<bad> of <live> live entries..; the table has <table_columns> columns",
    ),
    "layers": ("<wrong> of <recorded> recorded layers..",),
    "stale-tail": ("<count> ids in <rows> rows of .. are outside its pool of <bound> ..",),
    "pool": ("..: <num_pages> pages of <page_size> token..",),
    "divergence": ("<divergent_pages> of <mapped_pages> mapped full ..",),
    "mapping": ("<mapped> of <full_pages> full .., <moved> of them under another number..",),
    "pool-use": (
        "..at step <first__1>, peak .. at step <peak__1>, .. at step <last__1>; full at none of these steps, "
        "<free> slots free at the peak..",
        "..at step <first__1>, peak .. at step <peak__1>, .. at step <last__1>; it filled..",
    ),
    "one-sided": ("..: <first__0> at step <first__1>, most <most__0> at step <most__1>, <last__0> at step <last__1>",),
    "last-step": ("last step <step>: ..<batch> requests, <waiting> waiting..", "last step <step>: .."),
    "held": ("..: reads <counts__0>, pool swaps <counts__1>, allocations <counts__2>",),
    "recorded": (
        "..handed layer <layer_id>.. <value> at <ENTRY>: <past_the_end> past the last of <bound> ..",
        "..",
    ),
    "placed": ("..bound <bound> is the end of the ..",),
    "event": ("<space> <page> was <event> by call <call> of <of> recorded",),
    "owner-steps": ("request .., which holds .. at step <owner_first_step> .. at step <owner_last_step>",),
    "freed-apart": ("..step <apart_since_step>: <slots> slots, or more",),
    "inside": ("..all <live> live ids of this read are inside <low> .. <last>",),
    "live-column": (
        "..column <column> is one of the live <LIVE> of row <row> (<keys> keys, window <window_left>)",
        "..column <column> is one of the live <LIVE> of row <row> (<keys> keys)",
    ),
    "batch-row": ("..: row <row> is one of the batch's <batch_rows>",),
    "mapped-apart": ("..: the <pages> live full .. map to <pages> different ..",),
    "calls-hold": ("..: <count> traps are silent on the <calls> calls of this file",),
}


def _pattern(text: str) -> re.Pattern[str]:
    parts, seen = [], set[str]()
    text = text.replace("<ENTRY>", "row <row> column <column>").replace("<LIVE>", "<columns__0>..<columns__1>")
    # Two dots between numbers are a range's own.
    text = text.replace(">..<", ">\0<").replace("> .. <", "> \0 <")
    for part in re.split(r"(<\w+>|\.\.)", text):
        if part == "..":
            parts.append(".*?")
        elif named := _NAMED.fullmatch(part):
            name = named[1]
            parts.append(
                f"(?P={name})" if name in seen else f"(?P<{name}>.*?)" if name in _WORDS else rf"(?P<{name}>-?\d+)"
            )
            seen.add(name)
        else:
            parts.append(re.escape(part).replace("\0", r"\.\."))
    return re.compile("".join(parts), re.S)


_WORDS = ("trap", "space", "event")
PATTERNS = {kind: [_pattern(text) for text in texts] for kind, texts in _TEXTS.items()}


def placed(finding: Finding) -> dict[str, str]:
    """By path in the data, what the text says there."""
    for pattern in PATTERNS.get(finding.kind, ()):
        if found := pattern.fullmatch(finding.text):
            return found.groupdict()
    return {}


def at(data: Any, name: str) -> Any:
    for key in name.split("__"):
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def misplaced(finding: Finding) -> Iterator[str]:
    """What the text says of a value, and the data does not."""
    if finding.kind in PATTERNS and not any(p.fullmatch(finding.text) for p in PATTERNS[finding.kind]):
        yield "it does not read like a sentence of its kind"
    for name, text in placed(finding).items():
        value = at(finding.data, name)
        if str(value) != text:
            yield f"it says {text} for {name}, which is {value}"
