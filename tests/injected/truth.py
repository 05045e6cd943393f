"""What is known of each injected fault, as data beside its dumps: tests/analyzers/injected/truth.toml. No stack."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "analyzers/injected"
TRUTH = FOLDER / "truth.toml"
_HEAD = """\
# What is known of each fault that was injected into sglang's classes. Written by tools/injected_faults.py: change the
# faults (tests/injected) and run it again on each release.
#
# live: traps that fired, in the order in which they first did. offline: traps that fire on the dumps. judged: views
# that the armed traps were shown in the broken run. dumps: in the order in which g4diag wrote them; of a fault that no
# trap saw, one with the views as they were. healthy: the same drive without the fault. harmless: nothing reads what is
# broken. threads: upstream's, of a bug that it had and has fixed. issue: the known issue it truly is, "" for none.
# must_not: known issues it must not be matched to.
"""


@dataclass(frozen=True)
class Truth:
    """One fault on one release. Paths are names of files in FOLDER."""

    fault: str
    release: str
    live: tuple[str, ...]
    offline: tuple[str, ...]
    issue: str
    the_cause: str
    must_not: tuple[str, ...]
    threads: tuple[str, ...]
    harmless: bool
    judged: int
    dumps: tuple[str, ...]
    healthy: str

    @property
    def is_missed(self) -> bool:
        """Something wrong is read or written, and no trap says so."""
        return not self.live and not self.harmless

    @property
    def paths(self) -> list[Path]:
        return [FOLDER / name for name in self.dumps]


def truths() -> list[Truth]:
    """Every fault on every release, by fault and then release."""
    rows = tomllib.loads(TRUTH.read_text(encoding="utf-8"))["fault"] if TRUTH.exists() else []
    return [Truth(**{name: tuple(v) if isinstance(v, list) else v for name, v in row.items()}) for row in rows]


def write(rows: Iterable[Truth]) -> None:
    """The file anew."""
    tables = ("\n".join(["[[fault]]", *_lines(row)]) for row in rows)
    TRUTH.write_text("\n".join([_HEAD, "\n\n".join(tables), ""]), encoding="utf-8")


def _lines(row: Truth) -> list[str]:
    return [f"{field.name} = {_toml(getattr(row, field.name))}" for field in fields(row)]


def _toml(value: Any) -> str:
    """Of strings without line breaks, whole numbers, booleans and lists of them: what JSON and TOML write alike."""
    return json.dumps(value, ensure_ascii=False)
