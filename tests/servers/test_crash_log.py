"""Logs of servers that died, and of those that did not: the outcome in one word and the line that shows it."""

from __future__ import annotations

import logging

import pytest

from g4diag.servers import crash_log

CUBLAS = "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"
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
        ("  File x\nAssertionError: Mask is required\n", "assertion-error", "AssertionError: Mask is required"),
        ("starting\nKilled", "other-error", "Killed"),
        ("", "other-error", "the server left without a word"),
        (f"{CUBLAS} when calling `x`\nIndexError: list index out of range", "cublas-failed", CUBLAS),
        (f"{CUBLAS}\n{CUDA}", "illegal-access", CUDA),
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


def test_the_first_bad_read_that_a_trap_logged_is_named_and_nothing_else() -> None:
    line = "g4diag violation trap=page_table_stays_in_pool severity=error layer=4 row=6 request=ac1 column=60 value=515"
    text = f'x\n[10:00] {line} expected=444 low=0 bound=469 count=3 summary="y"\n{line.replace("row=6", "row=7")}\n'
    assert crash_log.named(text) == (
        "page_table_stays_in_pool: layer 4 row 6 column 60 value 515 expected 444 bound 469"
    )
    assert crash_log.named("no trap said anything") == ""


def test_the_logs_accept_lengths_come_with_the_requests_that_ran() -> None:
    text = (
        "Prefill batch, #running-req: 6, #queue-req: 17\n"
        "Decode batch, #running-req: 7, #full token: 28224, accept len: 3.03, accept rate: 0.68\n"
        "Decode batch, #running-req: 8, #full token: 1, accept len: 2.77, accept rate: 0.6\n"
    )
    assert crash_log.accept_lengths(text) == ((7, 3.03), (8, 2.77))


def test_xqas_own_word_for_it_is_an_illegal_access() -> None:
    found = crash_log.classify("RuntimeError: cudaErrorIllegalAddress", "", complete=False, timed_out=False)
    assert found == ("illegal-access", "RuntimeError: cudaErrorIllegalAddress")
