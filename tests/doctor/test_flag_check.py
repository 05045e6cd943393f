"""sglang's flags are judged by its own parser, which `serve` asks only where the text of its source leaves doubt."""

from __future__ import annotations

import argparse
import os
import sys

import pytest

pytest.importorskip("sglang")

from g4diag.doctor import flag_check
from g4diag.model.doctor import FlagCheck
from g4diag.stack.drive.cpu import prepare_environment

NEVER = (sys.executable, "-c", "raise SystemExit('not to be asked')")


def test_declared_flags_and_their_abbreviations_start_nothing() -> None:
    given = ("--model", "x", "--page-size=64", "--swa-full-tokens", "0.8", "--trust-remote-code", "-1")
    assert flag_check.check(given, {}, NEVER) == FlagCheck()
    assert "not to be asked" in flag_check.check((*given, "--config", "c.yaml"), {}, NEVER).unchecked
    assert "not to be asked" in flag_check.check(given, {}, NEVER, values=True).unchecked
    assert flag_check.check((), {}, NEVER, values=True) == FlagCheck()


def test_sglangs_own_parser_tells_what_it_does_not_know_and_what_is_meant() -> None:
    """--nnodes is a flag that the text does not show."""
    given = ("--no-such-flag", "1", "--pagesize=64", "--nnodes", "1", "-x", "2")
    found = flag_check.check(given, os.environ)
    assert not found.refused and not found.unchecked
    rows = [(flag.name, flag.nearest) for flag in found.unknown]
    assert rows == [("--no-such-flag", ""), ("--pagesize", "--page-size"), ("-x", "")]


def test_every_flag_that_the_text_declares_is_the_parsers() -> None:
    prepare_environment()
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    assert {f"--{name}" for name in flag_check.declared_flags()} <= set(parser._option_string_actions)


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (("--model-path", "x", "--decode-attention-backend", "trtllm_mah"), "invalid choice: 'trtllm_mah'"),
        (("--model-path", "x", "--page-size", "foo"), "argument --page-size: invalid int value: 'foo'"),
        (("--model-path",), "expected one argument"),
        (("--model-path", "x", "--page-size", "64", "--decode-attention-backend", "trtllm_mha"), ""),
    ],
)
def test_sglangs_own_parser_refuses_a_value(arguments: tuple[str, ...], refused: str) -> None:
    prepare_environment()
    from sglang.srt.server_args import ServerArgs

    parser = flag_check._Parser()
    ServerArgs.add_cli_args(parser)
    found = flag_check.judge(parser, arguments)
    assert refused in found["refused"] and bool(found["refused"]) == bool(refused) and not found["unknown"]


def test_a_parser_that_cannot_be_had_is_said() -> None:
    found = flag_check.check(("--no-such-flag",), {}, (sys.executable, "-c", "import no_such_module"))
    (remark,) = found.remarks
    assert remark.startswith("flags were not checked: ") and "No module named 'no_such_module'" in remark
    assert not found.problems


@pytest.mark.parametrize(
    ("arguments", "names", "refused"),
    [
        (("--size", "1", "--sizes", "2"), ["--sizes"], ""),
        (("--size", "1", "2"), ["2"], ""),
        (("--siz", "x"), [], "argument --size: invalid int value: 'x'"),
        (("--help", "--sizes"), [], ""),
        ((), [], ""),
    ],
)
def test_what_a_parser_says(
    arguments: tuple[str, ...], names: list[str], refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = flag_check._Parser()
    parser.add_argument("--size", type=int)
    parser.add_argument("--needed", required=True)
    found = flag_check.judge(parser, arguments)
    assert ([row["name"] for row in found["unknown"]], found["refused"]) == (names, refused)
