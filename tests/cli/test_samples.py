"""Every file in dumps/ has the verdict and the exit code that dumps/README.md lists for it."""

from __future__ import annotations

import re

import pytest

from tests.cli.test_inspect import DUMPS, run

_ROW = re.compile(r"^\| `([^`]+)` \| .* \| .*exit (\d).*\|$", re.MULTILINE)
LISTED = _ROW.findall((DUMPS / "README.md").read_text())


def test_every_sample_is_listed_and_every_row_is_there() -> None:
    there = {path.name for path in DUMPS.iterdir() if path.suffix not in (".md", ".py") and path.name != "__pycache__"}
    assert {name.rstrip("/") for name, _ in LISTED} == there and len(LISTED) >= 6


@pytest.mark.parametrize(("name", "code"), LISTED, ids=[name for name, _ in LISTED])
def test_the_verdict_is_as_listed(name: str, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, out, err = run(capsys, "inspect", DUMPS / name)
    first = out.split(":")[0]
    assert (found, err) == (int(code), "")
    assert first in {"0": ("HEALTHY",), "1": ("ERROR", "WARNING", "LIKELY"), "4": ("CRASH", "INCONCLUSIVE")}[code]
