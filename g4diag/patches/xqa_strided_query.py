"""XQA reads packed query rows, and is handed them packed.

Symptom: on Hopper the accept length of a frozen-KV draft on trtllm_mha is far below the triton backend's and falls as
the batch grows, with the right output. On an H100, 0.5.13 as released: 1.678 where triton has 3.295.
Cause: on CUDA `Gemma4Attention` normalises q in place and leaves it a slice of the qkv buffer, so rows lie further
apart than they are long. `TRTLLMHAAttnBackend` reshapes it, which is a view, and FlashInfer's XQA wrapper gives the
kernel the data pointer without strides. Row 0 is read where it is; the others are mixed of other rows' queries, keys
and values. A decode that no verify guards, and a verify on the decode backend (--speculative-attention-mode decode),
would give wrong output: by reading, not run. On SM100 FlashInfer hands query strides to its kernel: not affected.
History: until #22517 (2026-04-10) the backend made q contiguous. #31641 saw garbage with an NVFP4 cache on SM120;
#31667 (2026-07-18), in 0.5.16, packs q again, in `forward_decode` only; `forward_extend` views it until 0.5.18 and
packs it where XQA runs since 0.5.19, which brought FMHAv2 there (read in every wheel).

With this patch and nothing else changed the accept length is triton's 3.295 on that H100, eager and in CUDA graphs,
where the copy is captured with the rest (`g4diag repro xqa-strided-query --device cuda`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch

_BACKEND = "sglang.srt.layers.attention.trtllm_mha_backend.TRTLLMHAAttnBackend"
_VIEW = "q = q.reshape(-1, layer.tp_q_head_num, layer.head_dim)"
_PACKED = "q = q.contiguous().view(-1, layer.tp_q_head_num, layer.head_dim)"


def with_packed_query(original: Callable[..., Any], backend: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    """Around a forward of the backend: q in packed rows for XQA, the same tensor where it is packed already."""
    return original(backend, q.contiguous() if backend.is_xqa_impl else q, *args, **kwargs)


def _form(releases: str, hooked: tuple[str, ...], packed: tuple[str, ...] = ()) -> Form:
    return Form(
        releases=releases,
        anchors=(
            *(Anchor(f"{_BACKEND}.{method}", _VIEW) for method in hooked),
            *(Anchor(f"{_BACKEND}.{method}", _PACKED) for method in packed),
        ),
        hooks=lambda: tuple(Hook(f"{_BACKEND}.{method}", "around", with_packed_query) for method in hooked),
    )


PATCH = Patch(
    name="xqa-strided-query",
    kind="cure",
    why="On Hopper and SM120 all requests of a batch but the first attend with wrong queries: accept length falls.",
    how="Around TRTLLMHAAttnBackend.forward_decode and forward_extend: q is made contiguous where XQA will read it.",
    upstream="sgl-project/sglang#31667 (2026-07-18) for #31641, in 0.5.16; introduced by #22517 (2026-04-10)",
    releases=">=0.5.12,<0.5.19",
    anchors=(Anchor(f"{_BACKEND}.__init__", "self.is_xqa_impl = is_sm90_supported() or is_sm120_supported()"),),
    forms=(
        _form(">=0.5.16,<0.5.19", ("forward_extend",), packed=("forward_decode",)),
        _form(">=0.5.12,<0.5.16", ("forward_decode", "forward_extend")),
    ),
    remove_when="The oldest release in use is 0.5.16, or 0.5.19 where a verify runs on XQA.",
    upstream_when=Anchor(f"{_BACKEND}.forward_extend", _PACKED),
)
