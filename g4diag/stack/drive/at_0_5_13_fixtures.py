"""What 0.5.13's backends and drafts need to be driven by hand, where later releases need something else.

`stack/drive` asks `driver().FIXTURES` for these by name. Arguments and results are sglang's own objects.
"""

from __future__ import annotations

from typing import Any

# The ForwardMode in which an EAGLE draft writes K/V of what a verify accepted.
DRAFT_EXTEND = "DRAFT_EXTEND"
# Whether it does so for all draft tokens of each request, accepted or not.
EXTENDS_ALL_DRAFTS = False
# Kernels that make trtllm_mha's tables: of an "eager" step, and the one that a "graph" records.
TABLE_KERNELS: dict[str, str] = {}


def speculation(drafts: int) -> dict[str, Any]:
    """Server arguments of speculation beside those of every release. drafts: tokens that a verify looks at."""
    return {"max_speculative_num_draft_tokens": drafts}


def frozen_worker(args: Any, runner: Any, kv_context: Any) -> Any:
    """A frozen-KV draft's worker around a runner that has its backend, made without its constructor; no graph runner
    yet. args: speculation with topk 1."""
    from sglang.srt.speculative.frozen_kv_mtp_worker import FrozenKVMTPWorker

    from g4diag.stack.drive.frozen_worker import worker_fields

    worker = object.__new__(FrozenKVMTPWorker)
    worker.__dict__.update(worker_fields(args, runner, kv_context))
    return worker


def draft_sizes(runner: Any, model_config: Any, tokens: int, ratio: float) -> Any:
    """The pool sizes that a target of so many full tokens hands its draft. See `split_tokens`."""
    from g4diag.stack.drive.at_0_5_13 import split_tokens

    return split_tokens(runner, model_config, tokens, ratio)


def recorded_forward(runner: Any, backend: Any, batch: Any) -> Any:
    """What a graph runs of the runner's forward through this backend: here the whole of it, planned already."""
    from g4diag.stack.drive.forwards import forward_through

    return forward_through(runner, backend)(batch)


def eagle_extend(accepted_B: Any, accepted: list[int] | None, width: int) -> Any:
    """What an EAGLE draft extend carries. accepted_B: int64 [batch] tensor of tokens that each row was left with;
    accepted: the same on the host, None for padding only. width: tokens a row in a graph."""
    from sglang.srt.speculative.eagle_info import EagleDraftExtendInput

    return EagleDraftExtendInput(num_accept_tokens=accepted_B, num_accept_tokens_cpu=accepted)
