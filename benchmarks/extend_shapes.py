"""Launch shapes of triton extend attention as sglang 0.5.13's triton backend makes them, and the truth about each.

Gemma-4 sliding layers: 8 query heads, 4 K/V heads, head_dim 256, bf16. K/V lie in pages of 64 slots in random order.
A verify launch carries what `TritonAttnBackend.init_forward_metadata` passes for target verify: the full boolean tree
mask (a chain, topk 1), its offsets, and for a windowed layer the last `window - 1` prefix tokens with their offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HEADS, KV_HEADS, DIM, PAGE = 8, 4, 256, 64
DEVICE = "cuda"  # tests set it to "cpu"


@dataclass(frozen=True)
class Shape:
    """batch requests of `extend` new tokens after `prefix` cached ones. window: 0 for a full layer.
    reported: the fork's (stock (128,64), tuned) microseconds on an H100."""

    name: str
    batch: int
    extend: int
    prefix: int = 0
    window: int = 0
    verify: bool = False
    reported: tuple[float, float] | None = None

    @property
    def kept(self) -> int:
        """Prefix tokens of a request that its layer is given."""
        return min(self.prefix, self.window - 1) if self.window else self.prefix

    @property
    def bytes_touched(self) -> int:
        """Q, K, V of the new tokens, the output, and the prefix K/V that it is given, each once."""
        new = self.batch * self.extend * (2 * HEADS + 2 * KV_HEADS)
        return 2 * DIM * (new + self.batch * self.kept * 2 * KV_HEADS)

    @property
    def flops(self) -> int:
        """Of the two products, over visible pairs."""
        seen = (self.kept + row + 1 for row in range(self.extend))
        pairs = self.batch * sum(min(keys, self.window + 1) if self.window else keys for keys in seen)
        return 4 * DIM * HEADS * pairs

    @property
    def small(self) -> Shape:
        """The same kernel specialisation on next to no data."""
        return Shape(
            self.name, min(self.batch, 8), min(self.extend, 16), min(self.prefix, 64), self.window, self.verify
        )


SIX = (
    Shape("prefill bs1 ext8192", 1, 8192, reported=(2656.80, 1907.64)),
    Shape("prefill bs1 ext1000", 1, 1000, reported=(128.21, 55.98)),
    Shape("verify bs32 ext4 pre1000 win1024", 32, 4, 1000, 1024, True, (616.48, 144.01)),
    Shape("verify bs32 ext4 pre8000", 32, 4, 8000, 0, True, (1075.79, 191.49)),
    Shape("verify bs32 ext4 pre64", 32, 4, 64, 0, True, (93.98, 22.10)),
    Shape("prefill bs4 ext1000", 4, 1000, reported=(225.33, 153.53)),
)
# Not the fork's: where a tile chosen on the six could lose.
MORE = (
    Shape("verify bs4 ext4 pre4000", 4, 4, 4000, 0, True),
    Shape("verify bs8 ext16 pre2000", 8, 16, 2000, 0, True),
    Shape("verify bs128 ext4 pre1000 win1024", 128, 4, 1000, 1024, True),
    Shape("chunk bs1 ext1024 pre8192", 1, 1024, 8192),
    Shape("chunk bs1 ext2048 pre1023 win1024", 1, 2048, 1023, 1024),
    Shape("prefill bs1 ext8192 win1024", 1, 8192, 0, 1024),
    Shape("chunk bs16 ext64 pre2000", 16, 64, 2000),
)
# On both sides of the rule's borders, and where it was never measured. The last one's sweep ran out of time.
BORDERS = (
    Shape("verify bs16 ext4 pre4000", 16, 4, 4000, 0, True),
    Shape("verify bs20 ext4 pre4000", 20, 4, 4000, 0, True),
    Shape("verify bs4 ext4 pre1000 win1024", 4, 4, 1000, 1024, True),
    Shape("prefill bs16 ext64", 16, 64),
    Shape("chunk bs1 ext128 pre8192", 1, 128, 8192),
    Shape("chunk bs1 ext8192 pre512", 1, 8192, 512),
    Shape("chunk bs1 ext8192 pre8192", 1, 8192, 8192),
    Shape("chunk bs8 ext64 pre1000 win1024", 8, 64, 1000, 1024),
    MORE[-1],
)


def make_inputs(shape: Shape, seed: int) -> dict[str, Any]:
    """Arguments of extend_attention_fwd, fresh random ones, the output poisoned."""
    import torch

    generator = torch.Generator(DEVICE).manual_seed(seed)

    def noise(*size: int) -> Any:
        return torch.randn(*size, generator=generator, device=DEVICE, dtype=torch.bfloat16)

    def offsets(count: int, dtype: Any) -> Any:
        return torch.arange(0, shape.batch + 1, device=DEVICE, dtype=dtype) * count

    tokens, kept = shape.batch * shape.extend, shape.kept
    pages = -(-max(shape.prefix, 1) // PAGE)
    order = torch.randperm(shape.batch * pages, generator=generator, device=DEVICE).view(shape.batch, pages) + 1
    slots = (order[:, :, None] * PAGE + torch.arange(PAGE, device=DEVICE)).flatten(1)[:, : shape.prefix]
    pool = (shape.batch * pages + 1) * PAGE
    row = shape.extend * (shape.prefix + shape.extend)  # of the mask, a request
    return {
        "q_extend": noise(tokens, HEADS, DIM),
        "k_extend": noise(tokens, KV_HEADS, DIM),
        "v_extend": noise(tokens, KV_HEADS, DIM),
        "o_extend": torch.full((tokens, HEADS, DIM), float("nan"), device=DEVICE, dtype=torch.bfloat16),
        "k_buffer": noise(pool, KV_HEADS, DIM),
        "v_buffer": noise(pool, KV_HEADS, DIM),
        "qo_indptr": offsets(shape.extend, torch.int32 if shape.verify else torch.int64),
        "kv_indptr": offsets(kept, torch.int32),
        "kv_indices": slots[:, shape.prefix - kept :].flatten().contiguous(),
        "custom_mask": _chain(shape) if shape.verify else None,
        "is_causal": True,
        "mask_indptr": offsets(row, torch.int64) if shape.verify else None,
        "max_len_extend": shape.extend,
        "k_scale": 1.0,
        "v_scale": 1.0,
        "sm_scale": DIM**-0.5,
        "sliding_window_size": shape.window or -1,
        "window_kv_offsets": torch.full((shape.batch,), shape.prefix - kept, device=DEVICE) if shape.window else None,
    }


def truth(shape: Shape, given: dict[str, Any], block: int = 1024) -> Any:
    """float32[tokens, heads, dim]: attention by the definition, a request, a K/V head and a block of rows at a time."""
    import torch

    group, kept = HEADS // KV_HEADS, shape.kept
    out = torch.empty(given["q_extend"].shape, device=DEVICE, dtype=torch.float32)
    slots = given["kv_indices"].view(shape.batch, kept)
    k_at = torch.arange(shape.prefix - kept, shape.prefix + shape.extend, device=DEVICE)
    for request in range(shape.batch):
        new = slice(request * shape.extend, (request + 1) * shape.extend)
        keys = torch.cat([given["k_buffer"][slots[request]], given["k_extend"][new]]).float()
        values = torch.cat([given["v_buffer"][slots[request]], given["v_extend"][new]]).float()
        for first in range(0, shape.extend, block):
            rows = slice(new.start + first, min(new.start + first + block, new.stop))
            q_at = torch.arange(rows.start, rows.stop, device=DEVICE)[:, None] - new.start + shape.prefix
            hidden = k_at > q_at
            if shape.window:
                hidden |= q_at > k_at + shape.window
            for kv in range(KV_HEADS):
                heads = slice(kv * group, (kv + 1) * group)
                query = given["q_extend"][rows, heads].float().transpose(0, 1)
                scores = (query @ keys[:, kv].T * given["sm_scale"]).masked_fill_(hidden, -torch.inf)
                out[rows, heads] = (scores.softmax(-1) @ values[:, kv]).transpose(0, 1)
    return out


def _chain(shape: Shape) -> Any:
    import torch

    full = torch.ones(shape.extend, shape.prefix + shape.extend, dtype=torch.bool, device=DEVICE)
    full[:, shape.prefix :] = full[:, shape.prefix :].tril()
    return full.flatten().repeat(shape.batch)
