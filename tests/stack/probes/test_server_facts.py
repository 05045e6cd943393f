"""What a dump says of its server: the flags that decide pools, tables and graphs, and nothing that is nobody's
business."""

from __future__ import annotations

from types import SimpleNamespace

from g4diag.stack.probes.server_facts import FLAGS, flags_of, worker_of


def runner(**changes: object) -> SimpleNamespace:
    args = SimpleNamespace(
        page_size=16, speculative_algorithm="EAGLE", api_key="secret", model_path="/home/me/model", tp_size=None
    )
    hf_config = SimpleNamespace(architectures=["Gemma4ForCausalLM"])
    made = {"server_args": args, "page_size": 32, "sliding_window_size": 511}
    return SimpleNamespace(**made | {"model_config": SimpleNamespace(hf_config=hf_config)} | changes)


def test_flags_that_are_set_and_named_here_are_told_and_no_other() -> None:
    assert flags_of(runner()) == {"page_size": 16, "speculative_algorithm": "EAGLE"}
    assert not {"api_key", "model_path", "host"} & set(FLAGS)


def test_a_worker_is_told_in_the_numbers_it_was_built_with() -> None:
    told = worker_of(runner(), "TRTLLMHAAttnBackend", "draft:MHATokenToKVPool", False)
    assert told == {
        "backend": "TRTLLMHAAttnBackend",
        "pool": "draft:MHATokenToKVPool",
        "page_size": 32,
        "window": 511,
        "frozen_kv": False,
        "model": "Gemma4ForCausalLM",
    }


def test_a_runner_that_says_nothing_is_no_error() -> None:
    assert flags_of(SimpleNamespace()) == {}
    assert worker_of(SimpleNamespace(), "X", "", True) == {"backend": "X", "frozen_kv": True}
