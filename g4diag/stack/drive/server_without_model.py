"""A server whose model is not run: its pools, rows and prefix cache, and the sizes that a scheduler's policy and a
backend's plans ask for. It imports neither models nor sglang's ModelRunner."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

from g4diag.hooks.anchors import has_module
from g4diag.stack.drive import cpu
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.serving import Serving
from g4diag.stack.pairs import tiny_gemma

_TRANSLATOR = "sglang.srt.mem_cache.kv_index_translator"


class ServerWithoutModel(Serving):
    """As `Serving`, but for `model` and `runner`: names of theirs that have to do with sizes, with the same values."""

    def _started(self) -> tuple[Any, Any]:
        cpu.start_ranks(self.args)
        config = tiny_gemma.sizes(self.geometry.window)
        return config, SimpleNamespace(get_attention_sliding_window_size=lambda: config.sliding_window - 1)

    def _make_runner(self, algorithm: str) -> None:
        from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

        self.runner = SimpleNamespace(
            **dict.fromkeys(driver().ABSENT),
            **cpu.sizes_of_runner(self.config, self.args, self.geometry.context),
            is_draft_worker=False,
            sliding_window_size=self.model.get_attention_sliding_window_size(),
            spec_algorithm=SpeculativeAlgorithm.from_string(algorithm),
            req_to_token_pool=self.request_pool,
            token_to_kv_pool_allocator=self.allocator,
            token_to_kv_pool=self.kv_pool,
            attn_backend=None,
        )
        self.runner.kv_index_translator = _translator(self.runner)


def _translator(runner: Any) -> Any:
    """What a ModelRunner makes for itself, None in a release without. It has come to ask for more."""
    if not has_module(_TRANSLATOR):
        return None
    from sglang.srt.mem_cache.kv_index_translator import KVIndexTranslator

    given = {
        "req_to_token": runner.req_to_token_pool.req_to_token,
        "token_to_kv_pool_allocator": runner.token_to_kv_pool_allocator,
        "token_to_kv_pool": runner.token_to_kv_pool,
        "page_size": runner.page_size,
        "device": runner.device,
        "is_draft_worker": runner.is_draft_worker,
    }
    asked = inspect.signature(KVIndexTranslator).parameters
    return KVIndexTranslator(**{name: value for name, value in given.items() if name in asked})
