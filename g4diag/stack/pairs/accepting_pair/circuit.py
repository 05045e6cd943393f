"""One attention layer of a Gemma-4 decoder written by hand: which residual dims it compares, and what it copies.

Gemma-4 makes this exact: q, k and v are RMS-normalised a head, so a score is known to the last digit, and the layer's
output is normalised again before it joins the residual, so its size does not depend on how many keys matched.
Every query head and every K/V head of a layer does the same, and the output sums over them: wrong K/V in one head
shows. The MLP is null. Symbols: D head dim, N hidden size; a pair is two head dims that RoPE turns together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, log, sin, sqrt
from typing import Any

import torch

ACTIVE = 3  # digits of a symbol: the squared norm of its code
# Scores of a full match. A code that shares two of three digits scores two thirds, and recency may take away up to
# 1.6 of its own part, so the margin is 18 for the window and 32 for the far past; bf16 moves a score by 0.3.
PREVIOUS_SCORE, WINDOW_SCORE, RECENCY_SCORE, FAR_SCORE = 160.0, 150.0, 20.0, 96.0
_FAST = 0.3  # rad a token: a pair that turns faster tells neighbours apart
_RECENCY_TURN = 2.2  # rad over a window, below pi so that the score falls all the way

Entries = list[tuple[int, int, float]]  # (head dim, residual dim, coefficient)


@dataclass(frozen=True)
class Heads:
    """Sizes of one layer's attention."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    theta: float
    turned: int  # pairs that RoPE turns; the others carry a code unchanged to any distance
    window: int

    def turn(self, pair: int) -> float:
        """How far RoPE turns a pair, in rad a token."""
        return float(self.theta ** (-2 * pair / self.head_dim))

    def still(self, count: int) -> list[int]:
        """`count` head dims whose pairs turn least: not at all in a full layer, 0.02 rad a window in a sliding one."""
        half = self.head_dim // 2
        pairs = range(self.turned, half) if self.turned < half else range(half - (count + 1) // 2, half)
        return [*pairs, *(pair + half for pair in pairs)][:count]


@dataclass(frozen=True)
class Written:
    """What a layer adds to the residual. moves: (residual dim, head dim of the value). active: how many of these dims
    are set at a time. gain: what each adds when it is."""

    moves: list[tuple[int, int]]
    active: int
    gain: float = 1.0


@dataclass(frozen=True)
class Circuit:
    """query, key, value: what a head makes of the residual. score: of a full match."""

    query: Entries
    key: Entries
    value: Entries
    written: Written
    score: float

    def tensors(self, at: Heads, intermediate: int, *, own_kv: bool = True) -> dict[str, torch.Tensor]:
        """The decoder layer's tensors, float32, by their checkpoint names. own_kv: False for an assistant's layer."""
        size = at.head_dim
        norm = torch.full((size,), sqrt(self.score / size))
        written = torch.zeros(at.hidden)
        out = torch.zeros(at.hidden, size)
        for row, column in self.written.moves:
            out[row, column] = 1.0
            written[row] = self.written.gain * sqrt(self.written.active / at.hidden)
        found = {
            "self_attn.q_proj.weight": _dense(self.query, size, at.hidden).repeat(at.heads, 1),
            "self_attn.o_proj.weight": out.repeat(1, at.heads),
            "self_attn.q_norm.weight": norm,
            "input_layernorm.weight": torch.ones(at.hidden),
            "post_attention_layernorm.weight": written,
            "pre_feedforward_layernorm.weight": torch.ones(at.hidden),
            "post_feedforward_layernorm.weight": torch.zeros(at.hidden),
            "mlp.gate_proj.weight": torch.zeros(intermediate, at.hidden),
            "mlp.up_proj.weight": torch.zeros(intermediate, at.hidden),
            "mlp.down_proj.weight": torch.zeros(at.hidden, intermediate),
            "layer_scalar": torch.ones(1),
        }
        if own_kv:
            found["self_attn.k_proj.weight"] = _dense(self.key, size, at.hidden).repeat(at.kv_heads, 1)
            found["self_attn.v_proj.weight"] = _dense(self.value, size, at.hidden).repeat(at.kv_heads, 1)
            found["self_attn.k_norm.weight"] = norm
        return found


def heads_of(config: Any, layer_type: str, hidden: int) -> Heads:
    """From a Gemma4TextConfig; both kinds of layers have the same heads."""
    rope = config.rope_parameters[layer_type]
    return Heads(
        hidden=hidden,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        theta=rope["rope_theta"],
        turned=int(rope.get("partial_rotary_factor", 1.0) * config.head_dim) // 2,
        window=config.sliding_window,
    )


def previous_token(at: Heads, one: int, values: Sequence[int], written: Written) -> Circuit:
    """Attend to the position before, which fast pairs tell by their angle. one: a residual dim that is always 1.
    values: residual dims that the value holds, in this order."""
    fast = [pair for pair in range(at.turned) if at.turn(pair) >= _FAST]
    query = [(pair, one, cos(at.turn(pair))) for pair in fast]
    query += [(pair + at.head_dim // 2, one, -sin(at.turn(pair))) for pair in fast]
    return Circuit(query, [(pair, one, 1.0) for pair in fast], _places(values), written, PREVIOUS_SCORE)


def window_lookup(
    at: Heads, one: int, asked: Sequence[int], keys: Sequence[int], values: Sequence[int], written: Written
) -> Circuit:
    """Attend to the newest position whose key code equals the asked code: where a cycle is short its steps stand in
    the window several times, and averaging them would hide a wrong page."""
    weight = sqrt(ACTIVE * RECENCY_SCORE / WINDOW_SCORE)
    newest = (round(at.head_dim / 2 * log(at.window / _RECENCY_TURN) / log(at.theta)), one, weight)
    still = at.still(len(asked))
    query, key = [*_places(asked, still), newest], [*_places(keys, still), newest]
    return Circuit(query, key, _places(values), written, WINDOW_SCORE + RECENCY_SCORE)


def far_lookup(
    at: Heads, asked: Sequence[int], keys: Sequence[int], values: Sequence[int], written: Written
) -> Circuit:
    """Attend to any position whose key code equals the asked code."""
    still = at.still(len(asked))
    return Circuit(_places(asked, still), _places(keys, still), _places(values), written, FAR_SCORE)


def _places(dims: Sequence[int], places: Sequence[int] | None = None) -> Entries:
    """Each residual dim to a head dim as it is; to 0, 1, ... unless said."""
    at = range(len(dims)) if places is None else places
    return [(place, dim, 1.0) for place, dim in zip(at, dims, strict=True)]


def _dense(entries: Entries, rows: int, columns: int) -> torch.Tensor:
    matrix = torch.zeros(rows, columns)
    for row, column, value in entries:
        matrix[row, column] = value
    return matrix
