"""Logs of servers that died, and of those that did not: the outcome in one word and the line that shows it."""

from __future__ import annotations

import logging

import pytest

from g4diag.stack import crash_log

CUDA = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"


@pytest.mark.parametrize(
    ("text", "outcome", "line"),
    [
        (f"Traceback\n  File x\n{CUDA}\nCUDA kernel errors might be\n", "illegal-access", CUDA),
        ("coredump: CUDBG_EXCEPTION_WARP_ILLEGAL_ADDRESS (14)", "illegal-access", "coredump: CUDBG_EXCEPTION_WARP"),
        ("a\nIndexError: list index out of range\nb", "index-error", "IndexError: list index out of range"),
        ("RuntimeError: The size of tensor a (16) must match the size of tensor b (22) at", "size-mismatch", "Runtime"),
        ("RuntimeError: output with shape [1] doesn't match the broadcast shape [220]", "size-mismatch", "RuntimeErr"),
        (
            "ValueError: first\nmore\nsglang.x.BadError: last\nReceived sigquit",
            "other-error",
            "sglang.x.BadError: last",
        ),
        ("starting\nKilled", "other-error", "Killed"),
        ("", "other-error", "the server left without a word"),
        # An illegal access makes whatever comes next fail too.
        (f"IndexError: list index out of range\n{CUDA}", "illegal-access", CUDA),
    ],
)
def test_a_dead_server_is_classified_by_what_killed_it(text: str, outcome: str, line: str) -> None:
    found = crash_log.classify(text, "", complete=False, timed_out=False)
    assert found[0] == outcome and found[1].startswith(line)
    assert outcome in crash_log.OUTCOMES


def test_a_server_that_answered_everything_is_finished_whatever_it_says_when_it_leaves() -> None:
    assert crash_log.classify(CUDA, "x", complete=True, timed_out=True) == ("finished", "")


def test_a_time_limit_is_a_timeout_unless_the_log_tells_why() -> None:
    assert crash_log.classify("waiting\n", "", complete=False, timed_out=True) == ("timeout", "waiting")
    assert crash_log.classify(CUDA, "", complete=False, timed_out=True)[0] == "illegal-access"


def test_only_what_is_armed_in_every_process_is_armed(caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        'g4diag armed: {"faults": ["faulty-rule"], "patches": ["x"], "traps": []} pid=1',
        'g4diag armed: {"faults": ["faulty-rule"], "patches": [], "traps": []} pid=2',
    ]
    assert crash_log.armed("\n".join(lines)) == {"processes": 2, "patches": [], "faults": ["faulty-rule"], "traps": []}
    assert crash_log.armed("g4diag NOT ARMED, this server runs without it: no")["refused"].endswith("without it: no")


def test_the_plugins_own_line_is_the_one_that_is_read(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sglang")
    from g4diag import plugin

    monkeypatch.setenv("G4DIAG_PATCHES", "faulty-rule")
    with caplog.at_level(logging.WARNING, logger="g4diag"):
        try:
            plugin.register()
        finally:
            plugin.disarm()
    assert crash_log.armed(caplog.text)["faults"] == ["faulty-rule"]


def test_peak_use_is_the_highest_of_the_log() -> None:
    text = "swa token usage: 0.12, x\nswa token usage: 0.95\nswa token usage: 0.31"
    assert crash_log.peak(text, "swa token usage") == 0.95 and crash_log.peak("", "swa token usage") is None
