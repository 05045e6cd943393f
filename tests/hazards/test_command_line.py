"""sglang's command line is read as argparse reads it, without sglang."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g4diag.hazards.command_line import known_flags, model_config, parse

KNOWN = frozenset({"model-path", "cuda-graph-bs", "cuda-graph-max-bs", "disable-cuda-graph", "kv-canary"})


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ((), {}),
        (("--disable-cuda-graph", "--kv-canary", "log"), {"disable-cuda-graph": "", "kv-canary": "log"}),
        (("--kv-canary=log",), {"kv-canary": "log"}),
        (("--kv=log", "--disable-cuda"), {"kv-canary": "log", "disable-cuda-graph": ""}),
        (("--cuda-graph", "1"), {"cuda-graph": "1"}),
        (("--cuda-graph-bs", "1", "2", "4"), {"cuda-graph-bs": "1 2 4"}),
        (("--model", "x", "--model-path", "y"), {"model-path": "y"}),
        (("stray", "--kv-canary", "log", "--kv-canary", "none"), {"kv-canary": "none"}),
    ],
)
def test_flags(arguments: tuple[str, ...], flags: dict[str, str]) -> None:
    assert parse(arguments, KNOWN) == flags


def test_a_config_file_counts_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("swa_full_tokens_ratio: 0.8  # ours\nkv-canary: 'log'\ntrust-remote-code: true\nlora: false\n")
    found = parse(("--config", str(path), "--kv-canary", "none"))
    assert found == {
        "config": str(path),
        "swa-full-tokens-ratio": "0.8",
        "kv-canary": "none",
        "trust-remote-code": "",
    }
    assert parse(("--config", str(tmp_path / "missing"))) == {"config": str(tmp_path / "missing")}


def test_the_installed_sglang_declares_the_flags_that_hazards_name() -> None:
    pytest.importorskip("sglang")
    from g4diag.doctor.flag_check import declared_flags

    named = {"swa-full-tokens-ratio", "kv-canary", "speculative-draft-attention-backend", "disable-cuda-graph"}
    named |= {"speculative-attention-mode", "speculative-eagle-topk", "max-running-requests", "model-path"}
    declared = declared_flags()
    assert declared >= named and {"cuda-graph-max-bs", "cuda-graph-max-bs-decode"} & declared


def test_flags_of_annotated_fields_are_told_too() -> None:
    """As sglang declares them since 0.5.14."""
    source = """
class ServerArgs:
    page_size: A[Optional[int], Arg(help="x --not-this", resolvable=True)] = None
    tp_size: A[int, Arg(aliases=["--tensor-parallel-size", "--tp"], cli_name="--tp-size")] = 1
    plain: A[bool, "A help text."] = False
    hidden: A[bool, Arg(no_cli=True)] = False
    _derived: A[Optional[bool], Arg(no_cli=True)] = None
    internal: A[int, NS("parallel")] = 1
    other: int = 1

    def add(parser):
        parser.add_argument(
            "--by-name",
            help="--nor-this",
        )
"""
    assert known_flags(source) == {"page-size", "tp-size", "tensor-parallel-size", "tp", "plain", "by-name"}


def test_model_config_from_a_folder_or_the_cache(tmp_path: Path) -> None:
    def written(folder: Path, text: str) -> None:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(text)

    written(tmp_path / "m", json.dumps({"architectures": ["A"]}))
    written(tmp_path / "hub" / "models--o--n" / "snapshots" / "1", json.dumps({"architectures": ["B"]}))
    written(tmp_path / "torn", "{")
    environ = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    assert model_config(str(tmp_path / "m"), environ) == {"architectures": ["A"]}
    assert model_config("o/n", environ) == {"architectures": ["B"]}
    assert model_config(str(tmp_path / "torn"), environ) is None and model_config("o/other", environ) is None
    assert model_config(None, environ) is None
