"""The smallest case as a pytest file: the fault is named, and without it all is silent."""

from __future__ import annotations

from pathlib import Path

from g4diag.atomic_write import atomic_write
from g4diag.errors import UsageError, unwritable
from g4diag.model.reduction import Case, Sizes, Target

_OURS = '"""The smallest case of '


def as_test(target: Target, sizes: Sizes, sound: Case) -> str:
    """The file's text. sound: the healthy state's run at these sizes, whose counts the test asks for again."""
    arguments = "".join(f"    {name!r}: {value!r},\n" for name, value in sizes.items()).replace("'", '"')
    put_back = f" with {', '.join(target.faults)} put back" if target.faults else ""
    counts = ("checked", "divergent") if sound.divergent else ("checked",)
    says = "\n".join(f"    assert found.{count} > 0" for count in counts)
    return f'''{_OURS}{target.scenario}/{target.state} that g4diag minimize found.

sglang's own classes on the CPU{put_back}. Prompts, chunks, windows, pools and pages in tokens.
"""

from g4diag.minimize import run_case

SIGNATURE = "{target.signature}"
SIZES = {{
{arguments}}}


def test_the_trap_names_it() -> None:
    found = run_case("{target.scenario}", "{target.state}", SIZES, seed={target.seed}, until=SIGNATURE)
    assert found.signature == SIGNATURE


def test_all_is_silent_without_it() -> None:
    found = run_case("{target.scenario}", "{target.healthy}", SIZES, seed={target.seed})
    assert (found.traps, found.error) == ((), "")
{says}
'''


def require_ours(path: Path) -> None:
    """UsageError where `path` is something else than a file this module wrote, or lies in no folder."""
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: wanted a file in a folder that is there, found no {path.parent}")
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8") as file:
            ours = file.read(len(_OURS)) == _OURS
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours:
        raise UsageError(f"--out {path}: wanted a new name or a test of g4diag minimize, found another file")


def write(path: Path, text: str) -> None:
    """The file whole or not at all. UsageError if the disk refuses."""
    try:
        atomic_write(path, text)
    except OSError as error:
        raise unwritable(path, error) from None
