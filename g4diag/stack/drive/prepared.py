"""A decode that a scheduler has made ready and has not run: a real ScheduleBatch of real requests that hold rows. Its
own filter says which of them are still there."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive import scheduler
from g4diag.stack.drive.cache_server import VOCAB, request
from g4diag.stack.drive.request_state import request_row
from g4diag.stack.drive.swa_pool import int64


def newcomer(rid: str) -> Any:
    """A real Req that asks for one token after one, without a row yet."""
    return request(rid, [1], 1)


def leave(req: Any) -> None:
    """It finishes, as an abort has it."""
    scheduler.abort(req)
    req.update_finish_state()


def scheduled(request_pool: Any, allocator: Any, reqs: Sequence[Any], lens: Sequence[int]) -> Any:
    """A ScheduleBatch of these requests, without a prefix cache. lens: tokens of each."""
    from sglang.srt.managers.schedule_batch import ScheduleBatch
    from sglang.srt.sampling.sampling_batch_info import SamplingBatchInfo
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    model_config = SimpleNamespace(is_encoder_decoder=False, vocab_size=VOCAB, is_multimodal=False)
    pools = (request_pool, allocator, None, model_config)
    batch = ScheduleBatch.init_new(list(reqs), *pools, False, SpeculativeAlgorithm.from_string(None))
    batch.req_pool_indices = int64([request_row(req) for req in reqs])
    batch.req_pool_indices_cpu = batch.req_pool_indices.clone()
    batch.seq_lens = batch.seq_lens_cpu = batch.orig_seq_lens = int64(list(lens))
    batch.sampling_info = SamplingBatchInfo.from_schedule_batch(batch, VOCAB)
    return batch


def still_there(batch: Any) -> list[str]:
    """Ids of its requests, once those that have finished are filtered out."""
    scheduler.leave_out(batch, [])
    return [str(req.rid) for req in batch.reqs]
