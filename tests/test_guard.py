"""Our errors never reach the server, and never hide from a test."""

from __future__ import annotations

import logging

import pytest

from g4diag.guard import guard, raising, set_raising


def test_in_production_an_error_is_logged_and_swallowed(caplog: pytest.LogCaptureFixture) -> None:
    set_raising(False)
    with caplog.at_level(logging.ERROR), guard("dumping"):
        raise ValueError("disk full")
    assert "dumping" in caplog.text and "disk full" in caplog.text


def test_a_decorated_function_returns_none_after_an_error() -> None:
    set_raising(False)

    @guard("counting")
    def count(n: int) -> int:
        return 10 // n

    assert (count(2), count(0), count(5)) == (5, None, 2)


def test_under_tests_it_is_raised() -> None:
    with pytest.raises(ValueError, match="seen"), guard("testing"):
        raise ValueError("seen")


def test_the_variable_turns_raising_on(monkeypatch: pytest.MonkeyPatch) -> None:
    set_raising(False)
    monkeypatch.setenv("G4DIAG_RAISE", "1")
    assert raising()
    monkeypatch.setenv("G4DIAG_RAISE", "0")
    assert not raising()


@pytest.mark.parametrize("passing", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_error_of_ours_always_passes(passing: type[BaseException]) -> None:
    set_raising(False)
    with pytest.raises(passing), guard("waiting"):
        raise passing


def test_a_device_that_died_before_is_said_in_one_line_and_leaves_the_report_to_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_raising(False)
    with caplog.at_level(logging.ERROR), guard("observing"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore advice")
    with caplog.at_level(logging.ERROR), guard("observing"):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
    dead, ours = caplog.records
    assert "observing: the device had faulted before" in dead.message and "advice" not in dead.message
    assert dead.exc_info is None and ours.exc_info is not None
