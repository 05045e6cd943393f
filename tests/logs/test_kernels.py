"""A kernel by its name: names as sglang 0.5.23 and flashinfer-python have them, or as debuggers print them."""

from __future__ import annotations

import pytest

from g4diag.logs.kernels import kernel

COPY, ATTENTION, TABLES = "a copy into or out of the KV cache", "attention", "page tables or slot mappings"
STATE, NORM, INDEXING = "state-space or linear attention state", "normalisation or activation", "embedding or indexing"
FA3 = "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<flash::CollectiveMainloop>>>(P)"
GEMM = "void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<int>>(P)"

NAMES: dict[str, tuple[str, bool | None]] = {
    "BatchDecodeWithPagedKVCacheKernel": (ATTENTION, True),
    "flashinfer::PrefillWithKVCacheKernel<A, B>": (ATTENTION, True),
    "_fwd_kernel": (ATTENTION, True),
    "_fwd_grouped_kernel_stage1": (ATTENTION, True),
    FA3: (ATTENTION, True),
    GEMM: ("matrix multiplication", False),
    "cutlass::device_kernel<who::Knows>": ("", None),
    "AppendPagedKVCacheKernel": (COPY, True),
    "fused_store_flashmla_cache": (COPY, True),
    "get_mla_kv_buffer_kernel": (COPY, True),
    "_fused_kv_norm_rope_write_kernel": (COPY, True),
    "create_flashmla_kv_indices_triton": (TABLES, True),
    "_prepare_swa_spec_page_table_kernel": (TABLES, True),
    "_compute_slot_mapping_kernel": (TABLES, True),
    # Each ends as the attention kernel of triton does.
    "_causal_conv1d_fwd_kernel": (STATE, False),
    "fused_recurrent_gated_delta_rule_fwd_kernel": (STATE, False),
    "_rms_norm_gate_fwd_kernel": (NORM, False),
    "_renorm_topk_logits_fwd_kernel": ("sampling", False),
    "BatchQKApplyRotaryPosIdsCosSinCacheKernel": (NORM, False),
    "grouped_gemma_rmsnorm_kernel": (NORM, False),
    "_gemma4_routing_kernel": ("experts of a MoE", False),
    "RadixTopKRenormProbKernel_MultiCTA": ("sampling", False),
    # It may look its pages up as it selects.
    "RadixTopKKernel_Unified": ("", None),
    "flashmla_sched_meta_kernel": ("", None),
    "groupnorm_twopass_store_locally": ("", None),
    # torch's own, by which sglang writes K/V too: the name does not tell.
    "void at::native::index_elementwise_kernel<128, 4, X>": (INDEXING, None),
    "IndexKernel": (INDEXING, None),
    "void at::native::vectorized_elementwise_kernel<4, X>": ("elementwise work of torch", None),
    "ncclDevKernel_AllReduce_Sum_bf16_RING_LL": ("communication between GPUs", False),
    "cross_device_reduce_1stage": ("communication between GPUs", False),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_by_its_name(name: str) -> None:
    found = kernel(name)
    assert (found.role, found.kv) == NAMES[name]


def test_a_sliding_layer_is_told_by_attention_alone() -> None:
    assert kernel("fmhaSm100fKernel_QkvBfloat16OBfloat16H256PagedKvSlidingOrChunkedCausalP64VarSeqQ16Kv128").sliding
    assert not kernel("SlidingWindowGemm").sliding and not kernel("_swa_scatter_kernel").sliding
