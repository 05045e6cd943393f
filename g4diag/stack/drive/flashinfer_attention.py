"""sglang's flashinfer backend on a CPU: the real FlashInferAttnBackend, its planning kernels interpreted, and wrappers
that are FlashInfer's own classes but for what needs CUDA: making, planning and running them.

Slots are pages of one token to the reference. B: rows. N: slots planned. Q: queries. H: heads. K: heads of keys.
D: head dim.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partialmethod
from itertools import pairwise
from typing import Any

from g4diag.stack.drive.reference_kernel import by_slot, decode_slots, rows_of

# Methods of the backend that make wrappers, plan them, or merge what two of them gave.
_METHODS = (
    "init_forward_metadata",
    "init_forward_metadata_out_graph",
    "init_cuda_graph_state",
    "forward_extend",
)


def backend(runner: Any) -> Any:
    """The flashinfer backend for this runner."""
    from sglang.srt.layers.attention.flashinfer_backend import FlashInferAttnBackend

    runner.model_config.v_head_dim = runner.model_config.head_dim  # other backends ask for neither
    with stand_ins():
        made = FlashInferAttnBackend(runner)

    def standing_in(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with stand_ins():
                return getattr(FlashInferAttnBackend, name)(made, *args, **kwargs)

        return call

    vars(made).update({name: standing_in(name) for name in _METHODS})
    return made


@contextmanager
def stand_ins() -> Iterator[None]:
    """For the body, sglang's module has our wrappers, and "cuda" where it makes a buffer is the CPU."""
    from sglang.srt.layers.attention import flashinfer_backend

    from g4diag.stack.drive.backends import cuda_is_cpu

    module = vars(flashinfer_backend)
    ours = {**_wrappers(), "fast_decode_plan": _fast_decode_plan, "_safe_merge_state": _merged}
    originals = {name: module[name] for name in ours if name in module}  # without CUDA it imports none
    module.update(ours)
    try:
        with cuda_is_cpu():
            yield
    finally:
        for name in ours:
            del module[name]
        module.update(originals)


def _fast_decode_plan(wrapper: Any, *args: Any, global_override_indptr_cpu: Any = None, **kwargs: Any) -> None:
    wrapper.plan(*args, **kwargs)


class _StandIn:
    """What a wrapper of ours has in place of the real one's. planned: the arguments of its last plan, by name."""

    def __init__(self, workspace: Any, layout: str = "NHD", *, use_cuda_graph: bool = False, **given: Any) -> None:
        self._use_cuda_graph, self.planned = use_cuda_graph, dict[str, Any]()
        for name in ("indptr", "indices"):
            # A decode wrapper's parameters end in one way, a prefill wrapper's in another.
            buffer = given.get(f"paged_kv_{name}_buffer", given.get(f"paged_kv_{name}_buf"))
            setattr(self, f"_paged_kv_{name}_buf", buffer)

    def plan(self, *args: Any, **kwargs: Any) -> None:
        """TypeError for arguments that FlashInfer would refuse."""
        real = next(kind.__dict__["plan"] for kind in type(self).__mro__[1:] if _is_real(kind) and "plan" in vars(kind))
        self.planned = inspect.signature(real).bind(self, *args, **kwargs).arguments
        for name in ("indptr", "indices"):
            given: Any = self.planned.get(f"paged_kv_{name}", self.planned.get(name))
            held: Any = getattr(self, f"_paged_kv_{name}_buf")
            if not self._use_cuda_graph:
                setattr(self, f"_paged_kv_{name}_buf", given)
            elif held.data_ptr() != given.data_ptr():
                held[: len(given)] = given

    begin_forward = plan


def _is_real(kind: type) -> bool:
    return kind.__module__.startswith("flashinfer")


class _Decode:
    def run(self: Any, q: Any, paged_kv_cache: Any, **rest: Any) -> Any:
        """q: [B, H, D]. paged_kv_cache: two of [slots, K, D]. The window is in the slots: no key is left out."""
        rows = rows_of(self._paged_kv_indptr_buf, self._paged_kv_indices_buf)
        return decode_slots(q, paged_kv_cache, *rows, self._sm_scale)


class _Prefill:
    def run(self: Any, q: Any, paged_kv_cache: Any, *, return_lse: bool = False, **rest: Any) -> Any:
        """q: [Q, H, D]. paged_kv_cache: two of [slots, K, D]."""
        from g4diag.stack.drive.reference import PagedAttention

        caches = by_slot(*paged_kv_cache)
        keys = [
            PagedAttention().gather(caches, self._paged_kv_indices_buf[start:end], end - start, 0)
            for start, end in pairwise(self._paged_kv_indptr_buf.tolist())
        ]
        return _attended(self, q, keys, self.planned.get("custom_mask"), return_lse)

    run_return_lse = partialmethod(run, return_lse=True)


class _Ragged:
    def run(self: Any, q: Any, k: Any, v: Any, *, return_lse: bool = False, **rest: Any) -> Any:
        """q: [Q, H, D]. k, v: [Q, K, D], of the same tokens."""
        keys = [(k[start:end], v[start:end]) for start, end in pairwise(self.planned["qo_indptr"].tolist())]
        return _attended(self, q, keys, None, return_lse)

    run_return_lse = partialmethod(run, return_lse=True)


@cache
def _wrappers() -> dict[str, Any]:
    """Subclasses of FlashInfer's wrappers by their names, so that probes find the real ones' `forward`."""
    import flashinfer

    parts = {"DecodeWithPaged": _Decode, "PrefillWithPaged": _Prefill, "PrefillWithRagged": _Ragged}
    names = {f"Batch{kind}KVCacheWrapper": part for kind, part in parts.items()}
    return {name: type(name, (part, _StandIn, getattr(flashinfer, name)), {}) for name, part in names.items()}


def _attended(wrapper: Any, q: Any, keys: Any, mask: Any, return_lse: bool) -> Any:
    """Each row's queries over its keys. mask: bool or uint8, flat, of every query and key of a row, rows one after the
    other; None where `causal` says. Returns [Q, H, D], with [Q, H], log-sum-exp of the scores, if wanted."""
    import torch

    outputs, masked = [], 0
    for (start, end), (k, v) in zip(pairwise(wrapper.planned["qo_indptr"].tolist()), keys, strict=True):
        at_Q = torch.arange(len(k) - (end - start), len(k))[:, None]
        key_N = torch.arange(len(k))[None, :]
        seen_QN = torch.ones(end - start, len(k), dtype=torch.bool)
        if mask is not None:
            seen_QN = mask[masked : masked + seen_QN.numel()].view_as(seen_QN).bool()
            masked += seen_QN.numel()
        elif wrapper._causal:
            seen_QN = key_N <= at_Q
        if (window := wrapper._window_left) >= 0:
            seen_QN = seen_QN & (key_N >= at_Q - window)
        outputs.append(_over(q[start:end], k, v, wrapper._sm_scale, seen_QN))
    o, lse = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    return (o.to(q.dtype), lse) if return_lse else o.to(q.dtype)


def causal(q_QHD: Any, k_NKD: Any, v_NKD: Any, scale: float) -> Any:
    """Attention of the last Q of N tokens over themselves and what is before them: [Q, H, D]."""
    import torch

    seen_QN = torch.ones(len(q_QHD), len(k_NKD), dtype=torch.bool).tril(len(k_NKD) - len(q_QHD))
    return _over(q_QHD, k_NKD, v_NKD, scale, seen_QN)[0].to(q_QHD.dtype)


def _over(q_QHD: Any, k_NKD: Any, v_NKD: Any, scale: float, seen_QN: Any) -> tuple[Any, Any]:
    """(output [Q, H, D], log-sum-exp [Q, H]): 0 and -inf for a query that sees no key."""
    import torch

    repeat = q_QHD.shape[1] // k_NKD.shape[1]
    k, v = (each.float().repeat_interleave(repeat, dim=1).transpose(0, 1) for each in (k_NKD, v_NKD))
    scores_HQN = torch.matmul(q_QHD.float().transpose(0, 1), k.transpose(1, 2)) * scale
    scores_HQN = scores_HQN.masked_fill(~seen_QN, float("-inf"))
    weights_HQN = torch.softmax(scores_HQN, dim=-1).nan_to_num(0.0)
    return torch.matmul(weights_HQN, v).transpose(0, 1), torch.logsumexp(scores_HQN, dim=-1).T


def _merged(o_QHD: Any, s_QH: Any, other_QHD: Any, t_QH: Any) -> tuple[Any, Any]:
    """Attention over the keys of both, from outputs and log-sum-exps of each."""
    import torch

    both_QH = torch.logaddexp(s_QH, t_QH)
    first, second = ((each - both_QH).exp().unsqueeze(-1) for each in (s_QH, t_QH))
    return (o_QHD * first + other_QHD * second).to(o_QHD.dtype), both_QH
