"""Upstream's one-launch router, compiled, against the chain of torch operators: E 128, K 8, as in 26B-A4B.

Run as a script it is the check itself: the test starts it in a process of its own, where Triton compiles; the suite's
process interprets kernels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPERTS, TOPK = 128, 8
TOKENS = (1, 2, 7, 64, 1000, 8192)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_it_equals_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sglang")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    environ = {name: text for name, text in os.environ.items() if name not in ("TRITON_INTERPRET", "G4DIAG_PATCHES")}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, __file__, dtype]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def check(dtype: str) -> None:
    """Weights and chosen logits for several numbers of tokens, an awkward stride, and logits that tie."""
    import torch
    from sglang.srt.layers.gemma4_fused_ops import gemma4_fused_routing

    from tests.patches.router import reference, tolerances

    generator = torch.Generator(device="cuda").manual_seed(0)
    scale = torch.rand(EXPERTS, generator=generator, device="cuda") + 0.5
    for tokens in TOKENS:
        wide = torch.randn(tokens, 2 * EXPERTS, generator=generator, device="cuda").to(getattr(torch, dtype))
        for logits in (wide[:, :EXPERTS].contiguous(), wide[:, ::2]):
            weights, ids = gemma4_fused_routing(logits, scale, TOPK)
            wanted, wanted_ids = reference(logits, scale, TOPK)
            assert weights.dtype == torch.float32 and ids.dtype == torch.int32 and weights.shape == (tokens, TOPK)
            # Equal logits may come in any order, with the scales of the experts that hold them: compare what was
            # chosen by value, and the weights under upstream's own choice.
            chosen, also = (logits.float().gather(1, rows.long()) for rows in (ids, wanted_ids))
            assert torch.equal(chosen, also), f"{tokens} tokens: other logits chosen"
            assert all(len(set(row)) == TOPK for row in ids.tolist()), "an expert chosen twice"
            softmax = torch.softmax(chosen, dim=-1) * scale[ids.long()]
            torch.testing.assert_close(weights, softmax, **tolerances())
            distinct = (ids == wanted_ids).all(dim=1)
            torch.testing.assert_close(weights[distinct], wanted[distinct], **tolerances())


if __name__ == "__main__":
    check(sys.argv[1])
