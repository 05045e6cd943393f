"""What the scenarios of attention backends share leaves the process as it was."""

from __future__ import annotations

import importlib
import sys

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.stack.drive import flashinfer_attention, sgl_kernel_stand_in
from g4diag.stack.drive.backends import cuda_is_cpu, flash_attention_imports


def test_stand_ins_for_sgl_kernel_refuse_to_be_called_and_leave_with_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    if sgl_kernel_stand_in.is_needed():
        pytest.skip("this release has a stand-in for the whole process")
    parent, own = "sglang.srt.layers.attention", "flashattention_backend"
    monkeypatch.setitem(sys.modules, "sgl_kernel", None)  # makes its import fail
    with flash_attention_imports():
        kernels = importlib.import_module("sgl_kernel.flash_attn")
        with pytest.raises(AssertionError, match="where it cannot run"):
            kernels.flash_attn_with_kvcache()
        made = importlib.import_module(f"{parent}.{own}")
    assert made.__name__ not in sys.modules and not hasattr(sys.modules[parent], own)
    assert not sys.modules.get("sgl_kernel") and "sgl_kernel.flash_attn" not in sys.modules


def test_flashinfers_stand_ins_refuse_what_it_would_and_leave_with_the_body() -> None:
    module = importlib.import_module("sglang.srt.layers.attention.flashinfer_backend")
    before = dict(vars(module))
    with pytest.raises(KeyError), flashinfer_attention.stand_ins():
        wrapper = module.BatchPrefillWithPagedKVCacheWrapper(None, "NHD", backend="fa2")
        wrapper.begin_forward("q", "kv", "slots", "last", 1, 1, 16, 1, custom_mask="mask")
        assert wrapper.planned["paged_kv_indices"] == "slots" and wrapper.planned["custom_mask"] == "mask"
        assert wrapper._paged_kv_indices_buf == "slots" and not wrapper.is_cuda_graph_enabled
        with pytest.raises(TypeError, match="window_right"):
            wrapper.begin_forward("q", "kv", "slots", "last", 1, 1, 16, 1, window_right=1)
        raise KeyError
    assert vars(module) == before


def test_buffers_named_cuda_are_made_on_the_cpu_in_the_body_only() -> None:
    with cuda_is_cpu():
        assert torch.zeros(2, device="cuda").device.type == "cpu"
        assert torch.zeros(2).device.type == "cpu"
    assert torch.overrides._len_torch_function_stack() == 0
