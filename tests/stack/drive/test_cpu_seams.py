"""The seams: undone exactly, and as strict as what they stand for."""

from __future__ import annotations

import pytest
import torch

from g4diag.errors import CannotRunError
from g4diag.stack.drive import cpu
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.releases import current


def test_the_kernel_seam_binds_through_the_real_signature_and_is_undone() -> None:
    import flashinfer.decode
    import flashinfer.prefill

    before = (
        flashinfer.decode.trtllm_batch_decode_with_kv_cache,
        flashinfer.prefill.trtllm_batch_context_with_kv_cache,
    )
    seen: dict[str, object] = {}
    with cpu.attention_kernels(seen.update, seen.update):
        names = ("query", "kv_cache", "workspace_buffer", "block_tables", "seq_lens", "max_seq_len")
        arguments = dict(zip(names, range(6), strict=True))
        with pytest.raises(TypeError, match="page_table"):
            flashinfer.decode.trtllm_batch_decode_with_kv_cache(**arguments, page_table=None)
        flashinfer.decode.trtllm_batch_decode_with_kv_cache(**arguments)
    assert seen["block_tables"] == 3 and seen["window_left"] == -1
    after = (
        flashinfer.decode.trtllm_batch_decode_with_kv_cache,
        flashinfer.prefill.trtllm_batch_context_with_kv_cache,
    )
    assert after == before


def test_preparing_too_late_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import sglang  # noqa: F401

    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(CannotRunError, match="was imported before"):
        cpu.prepare_environment()


def test_a_server_serves_and_takes_its_pages_back() -> None:
    from g4diag.stack.drive.reference import PagedAttention

    geometry = Geometry(requests=2)
    kernel = PagedAttention()
    with cpu.attention_kernels(kernel.decode, kernel.prefill):
        serving = Serving(geometry, seed=0)
        for rid, ids in serving.prompts():
            assert serving.admit(rid, ids)
        serving.decode()
        assert [len(req.output_ids) for req in serving.running.reqs] == [2, 2]
        while len(serving.running.reqs):
            serving.release(serving.running.reqs[0])
    assert kernel.entries > 0
    cached = serving.tree_cache.full_evictable_size()
    assert serving.allocator.full_available_size() + cached == geometry.full_tokens
    assert not serving.rid_of


def test_served_kv_is_what_the_logical_truth_holds() -> None:
    from g4diag.stack.drive.reference import PagedAttention

    kernel = PagedAttention()
    with cpu.attention_kernels(kernel.decode, kernel.prefill):
        serving = Serving(Geometry(requests=1), seed=0)
        ((rid, ids),) = serving.prompts()
        serving.admit(rid, ids)
    row = current().read.request_row(serving.running.reqs[0])
    slots = serving.request_pool.req_to_token[row, : len(ids)].long()
    full_layer = next(i for i, kind in enumerate(serving.config.layer_types) if kind == "full_attention")
    keys = serving.kv_pool.get_key_buffer(full_layer)[slots]
    assert torch.equal(keys, serving.logical.layers[rid, full_layer][0][: len(ids)])
