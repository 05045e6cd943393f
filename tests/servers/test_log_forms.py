"""The lines that the log reader knows, as sglang and g4diag themselves write them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from g4diag.dump.server_log import read_log
from g4diag.model import LogEvent, Severity, Violation

pytest.importorskip("sglang")


def events(text: str) -> tuple[LogEvent, ...]:
    raw = text.encode()
    found = read_log(io.BytesIO(raw), len(raw), "server.log")
    return found.log if found else ()


def test_the_canarys_own_lines() -> None:
    from sglang.srt.kv_canary.runner import violation_reporter as reporter

    row = [int(next(iter(reporter.CanaryLaunchTag))), 5, 6, 7, 8, 9, 10, int(next(iter(reporter.FailReason)))]
    said = reporter._format_violation(row=row, total=1, ring_overflow=False, step_when_pumped=3)
    (found,) = events(f"[2026-11-22 10:00:00 TP1] {said}\n")
    assert found.kind == "kv-canary" and "slot_idx=5" in found.text and found.rank == 1


def _asserts() -> Iterator[str]:
    import torch
    from sglang.srt.environ import envs
    from sglang.srt.utils import async_probe

    with envs.SGLANG_ENABLE_ASYNC_ASSERT.override(True):
        for probe in (
            lambda: async_probe.maybe_detect_oob(torch.tensor([5]), 0, 3, "out_cache_loc"),
            lambda: async_probe.maybe_detect_oob(torch.tensor([-5]), 0, 3, "out_cache_loc"),
            lambda: async_probe.maybe_detect_nan(torch.tensor([float("nan")]), "hidden"),
            lambda: async_probe.maybe_detect_page_aligned(torch.tensor([3]), 64, "slots"),
        ):
            with pytest.raises(RuntimeError) as raised:
                probe()
            yield f"RuntimeError: {raised.value}"


def test_the_async_asserts_own_lines() -> None:
    lines = list(_asserts())
    assert len(lines) == 4 and [event.kind for event in events("\n".join(lines))] == ["async-assert"] * 4


def test_our_own_violation_line() -> None:
    from g4diag.stack.live.log_line import log_line

    violation = Violation(
        "page_table_stays_in_pool", Severity.ERROR, "page 502 is outside", step=12, value=502, bound=469
    )
    record = logging.LogRecord("g4diag", logging.ERROR, "", 0, log_line(violation, 1, Path("x.pt")), None, None)
    (found,) = events(record.getMessage())
    assert found.kind == "violation" and "value=502" in found.text
