"""sglang's KV canary over a Gemma-4: violations that are one position high are of its own notes, and no others are."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4diag.analyzers import inspect_files

ISSUE = "kv-canary-gemma-positions"
SERVER = "[2026-11-29 15:03:12] server_args=ServerArgs(model_path='{model}', page_size={page}, kv_canary='log')\n"
# Of a run on an H200; its tokens are others.
LINE = (
    "[2026-11-29 15:04:22] kv_canary violation: launch_tag={tag} fail_reason={reason} slot_idx={slot} "
    "position={position} stored_token=7 expected_token=-1 stored_chain_hash=0x6bd67b772826933e "
    "expected_aux=0x6bd67b772826933e\n"
)
GEMMA, OTHER = "google/gemma-4-26b-a4b-it", "openai/gpt-oss-20b"
Seen = tuple[str, str, int, int]
HIGH: tuple[Seen, ...] = (
    ("TAIL_K_FULL", "verify_position", 2325, 214),
    ("TAIL_V_SWA", "verify_position", 2303, 192),  # the last slot of a page
)


def issues(tmp_path: Path, seen: tuple[Seen, ...], model: str = GEMMA, page: int = 64) -> list[str]:
    """Known issues that are matched, not those that are possible."""
    lines = [LINE.format(tag=tag, reason=reason, slot=slot, position=at) for tag, reason, slot, at in seen]
    (tmp_path / "server.log").write_text(SERVER.format(model=model, page=page) + "".join(lines))
    found = inspect_files([tmp_path / "server.log"])
    assert not any("another token" in finding.text for finding in found.findings), "-1: none was told"
    return [str(finding.data["id"]) for finding in found.of("known_issues") if "matched" in finding.text]


def test_one_position_too_high_is_known(tmp_path: Path) -> None:
    assert issues(tmp_path, HIGH) == [ISSUE]


@pytest.mark.parametrize(
    ("seen", "model", "page"),
    [
        ((("TAIL_K_FULL", "verify_position", 2325, 213),), GEMMA, 64),
        ((("TAIL_K_FULL", "verify_position", 2325, 215),), GEMMA, 64),
        ((*HIGH, ("HEAD_K_FULL", "verify_position", 2325, 214)), GEMMA, 64),
        ((*HIGH, ("TAIL_K_SWA", "verify_chain_hash", 2325, 214)), GEMMA, 64),
        ((("TAIL_K_FULL", "write_position", 2325, 214),), GEMMA, 64),
        ((*HIGH, ("TAIL_K_FULL", "verify_chain_hash", 2325, 214)), GEMMA, 64),
        ((*HIGH, ("TAIL_K_FULL", "verify_position", 2325, 213)), GEMMA, 64),
        ((*HIGH, ("TAIL_K_FULL", "verify_position", 2325, 10**18 + 213)), GEMMA, 64),
        (HIGH, OTHER, 64),
        (HIGH, GEMMA, 1),
        (HIGH, GEMMA, 0),
    ],
    ids=[
        *("right place", "two off", "before the layers too", "a hash too", "a write", "a hash after it, of one tag"),
        *("another place after it, of one tag", "a position of 19 digits", "another model", "no pages", "no page"),
    ],
)
def test_anything_else_is_not(tmp_path: Path, seen: tuple[Seen, ...], model: str, page: int) -> None:
    assert issues(tmp_path, seen, model, page) == []


def test_each_reason_is_counted_by_itself_and_a_long_number_is_not_cut(tmp_path: Path) -> None:
    most = 2**63 - 1
    seen = (*HIGH[:1] * 2, ("TAIL_K_FULL", "verify_chain_hash", 2325, most))
    (tmp_path / "server.log").write_text(
        "".join(LINE.format(tag=t, reason=r, slot=s, position=p) for t, r, s, p in seen)
    )
    told = [finding.text for finding in inspect_files([tmp_path / "server.log"]).of("kv_canary")]
    assert [("verify_position" in text, "2 violations" in text) for text in told] == [(True, True), (False, False)]
    assert f"position {most}" in told[1]


TRACEBACK = """\
[2026-11-29 15:30:22] Scheduler hit an exception: Traceback (most recent call last):
  File "/sgl/python/sglang/srt/managers/scheduler.py", line 3000, in run_scheduler_process
    scheduler.event_loop_overlap()
"""
FAULT = TRACEBACK + "torch.AcceleratorError: CUDA error: an illegal memory access was encountered\n"
XID = "[Sun Nov 29 15:31:00 2026] NVRM: Xid (PCI:0000:3b:00): 79, pid=100, name=python, GPU has fallen off the bus.\n"


def told(tmp_path: Path, seen: tuple[Seen, ...], more: str) -> tuple[str, list[str]]:
    """(the first line, known issues) of such a log that goes on."""
    lines = [LINE.format(tag=tag, reason=reason, slot=slot, position=at) for tag, reason, slot, at in seen]
    (tmp_path / "server.log").write_text("".join([SERVER.format(model=GEMMA, page=64), *lines, more]))
    found = inspect_files([tmp_path / "server.log"])
    return found.of("verdict")[0].text, [str(issue.data["id"]) for issue in found.of("known_issues")]


@pytest.mark.parametrize(("more", "word"), [(FAULT, "CRASH"), (XID, "HARDWARE")], ids=["a crash", "an Xid"])
def test_a_crash_beside_them_is_not_explained_by_them(tmp_path: Path, more: str, word: str) -> None:
    alone, beside = (told(tmp_path, seen, more) for seen in ((), HIGH))
    assert alone == beside and alone[0].startswith(word)
    assert told(tmp_path, (*HIGH, ("TAIL_K_FULL", "verify_chain_hash", 5, 4)), more)[0].startswith("LIKELY: g4diag: KV")


def test_the_canarys_own_exception_is_no_other_crash(tmp_path: Path) -> None:
    first, *_ = (LINE.format(tag=tag, reason=reason, slot=slot, position=at) for tag, reason, slot, at in HIGH)
    assert told(tmp_path, HIGH, f"{TRACEBACK}RuntimeError: {first.partition('] ')[2]}")[1] == [ISSUE]
