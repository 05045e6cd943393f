"""`g4diag diff`: exit codes, and the first divergence in text and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g4diag.dump.writer import write_dump
from tests import samples
from tests.cli.test_inspect import DUMPS, run

pytestmark = pytest.mark.usefixtures("no_child")


@pytest.mark.parametrize(
    ("left", "right", "code", "head"),
    [
        ("h100-eager-warn.pt", "h100-eager-warn.pt", 0, "SAME: g4diag: "),
        ("h100-eager-warn.pt", "h100-graph-contain.pt", 1, "DIFFER: g4diag: "),
        ("legacy-allocator.pt", "legacy-allocator-last-page.pt", 1, "DIFFER: g4diag: "),
        ("legacy-allocator.pt", "legacy-page-table.pt", 4, "NOT COMPARABLE: g4diag: "),
    ],
)
def test_samples(left: str, right: str, code: int, head: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, out, err = run(capsys, "diff", DUMPS / left, DUMPS / right)
    assert (found, err) == (code, "") and out.startswith(head)


def test_the_faulty_side_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_dump(samples.incident(samples.healthy_read()), tmp_path / "good.pt")
    bad = write_dump(samples.faulty_incident(), tmp_path / "bad.pt")
    code, out, _ = run(capsys, "diff", good, bad, "--json")
    document = json.loads(out)
    assert code == document["exit_code"] == 1 and document["schema"] == "g4diag.diff"
    assert document["files"] == ["good.pt", "bad.pt"] and document["findings"][0]["data"]["wrong"] == 1
    assert any(finding["text"].startswith("bad.pt is the faulty one") for finding in document["findings"])


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pt").write_bytes(b"hello")
    good = DUMPS / "legacy-allocator.pt"
    for pair, wanted in (((good, tmp_path / "x.pt"), 5), ((tmp_path / "missing.pt", good), 2)):
        code, out, err = run(capsys, "diff", *pair)
        assert (code, out) == (wanted, "") and err.startswith("g4diag: ") and err.count("\n") == 1


def test_html_is_one_page_without_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "diff.html"
    pair = (DUMPS / "h100-eager-warn.pt", DUMPS / "h100-graph-contain.pt")
    code, out, err = run(capsys, "diff", *pair, "--html", page)
    text = page.read_text()
    assert code == 1 and out.startswith("DIFFER: ") and err == f"g4diag: page written to {page}\n"
    assert text.startswith("<!DOCTYPE html>") and "<script" not in text and "h100-graph-contain.pt" in text
    # An earlier page of ours may be replaced, and nothing else.
    assert run(capsys, "diff", *pair, "--html", page)[0] == 1 and page.read_text() == text
    assert run(capsys, "diff", *pair, "--html", pair[0])[0] == 2
