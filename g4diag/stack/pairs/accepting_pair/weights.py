"""The weights of the accepting pair, tensor by tensor, for any sizes that hold the circuit.

Target (residual dims: 1, a, s, previous a, previous s):
    embedding       writes a and s of the token; the tied head reads the same dims
    sliding layers  but the last: previous-token heads, each carries a part of the previous a and s
    last sliding    s was last followed by ...: keys previous s, values s; the answer overwrites the s dims
    last full       a was once followed by ...: keys previous a, values a; the answer overwrites the a dims
Assistant (residual dims: 1, asked a, asked s, answered a, answered s):
    pre_projection  takes two digits of each symbol from the token's embedding, the third from the recurrent hidden
    sliding layers  read the K/V of the target's last sliding layer; each answers a part of the digits of s
    full layers     the same for a and the target's last full layer
    head            tied to an embedding of the answers, in which one token in eight is missing (`task.known_to_draft`)
    post_projection puts the answers where the target's last hidden has them
MLPs are null in both models; no attention layer is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from math import sqrt
from typing import Any

import torch

from g4diag.errors import UsageError
from g4diag.stack.pairs.accepting_pair.circuit import (
    ACTIVE,
    Written,
    far_lookup,
    heads_of,
    previous_token,
    window_lookup,
)
from g4diag.stack.pairs.accepting_pair.task import DIGITS, FILLER, SYMBOLS, VOCAB, digits, known_to_draft

CODE = sum(DIGITS)  # dims of a symbol's code; a has one more, which says filler
_GAIN = 8.0  # an answer against the question it overwrites
_LOUDER = 8.0  # of the target's last hidden, so that a right logit is about 20
_DIGITS = [range(0, DIGITS[0]), range(DIGITS[0], DIGITS[0] + DIGITS[1]), range(DIGITS[0] + DIGITS[1], CODE)]

ONE = 0
A, S = range(1, CODE + 2), range(CODE + 2, 2 * CODE + 2)
BEFORE_A, BEFORE_S = range(S.stop, S.stop + len(A)), range(S.stop + len(A), S.stop + len(A) + CODE)
# The assistant asks where the target has the token itself.
ANSWER_A, ANSWER_S = range(S.stop, S.stop + CODE), range(S.stop + CODE, S.stop + 2 * CODE)


def target_weights(config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """(name below the text model, float32 tensor) of a target. config: Gemma4TextConfig. UsageError if too small."""
    _require(config, BEFORE_S.stop)
    hidden = config.hidden_size
    yield "embed_tokens.weight", _embedding(hidden) / sqrt(hidden)
    kinds = list(config.layer_types)
    read_by_draft = {len(kinds) - 1 - kinds[::-1].index(kind) for kind in ("sliding_attention", "full_attention")}
    early = [i for i in range(len(kinds)) if i not in read_by_draft]
    parts = _shared([list(A), *([S[place] for place in digit] for digit in _DIGITS)], len(early))
    for i, kind in enumerate(kinds):
        at = heads_of(config, kind, hidden)
        if i in early:
            circuit = previous_token(at, ONE, (*A, *S), _carried(parts.pop(0)))
        elif kind == "sliding_attention":
            written = Written(list(zip(S, range(CODE), strict=True)), ACTIVE, _GAIN)
            circuit = window_lookup(at, ONE, S, BEFORE_S, S, written)
        else:
            written = Written(list(zip(A[:CODE], range(CODE), strict=True)), ACTIVE, _GAIN)
            circuit = far_lookup(at, A, BEFORE_A, A, written)
        yield from _layer(i, circuit.tensors(at, config.intermediate_size))
    final = torch.zeros(hidden)
    final[[*A[:CODE], *S]] = _LOUDER
    yield "norm.weight", final


def assistant_weights(config: Any, backbone: int) -> Iterator[tuple[str, torch.Tensor]]:
    """As `target_weights` for an assistant, its two projections among them without a prefix of their own.
    config: its Gemma4TextConfig. backbone: the target's hidden size."""
    _require(config, ANSWER_S.stop)
    hidden = config.hidden_size
    yield "embed_tokens.weight", _answers(hidden) / sqrt(hidden)
    kinds = list(config.layer_types)
    digit_places = [list(digit) for digit in _DIGITS]
    parts = {kind: _shared(digit_places, kinds.count(kind)) for kind in ("sliding_attention", "full_attention")}
    for i, kind in enumerate(kinds):
        at, mine = heads_of(config, kind, hidden), parts[kind].pop(0)
        answer = ANSWER_S if kind == "sliding_attention" else ANSWER_A
        written = Written([(answer[place], place) for place in mine], sum(d[0] in mine for d in digit_places), _GAIN)
        if kind == "sliding_attention":
            circuit = window_lookup(at, ONE, S, BEFORE_S, S, written)
        else:
            circuit = far_lookup(at, A, BEFORE_A, A, written)
        yield from _layer(i, circuit.tensors(at, config.intermediate_size, own_kv=False))
    final = torch.zeros(hidden)
    final[[*ANSWER_A, *ANSWER_S]] = 1.0
    yield "norm.weight", final
    yield from _projections(hidden, backbone)


def _projections(hidden: int, backbone: int) -> Iterator[tuple[str, torch.Tensor]]:
    answers = 2 * ACTIVE * _GAIN**2  # squared norm of what was answered, nearly all of either residual
    in_hidden = _LOUDER * _GAIN * sqrt(backbone / (answers + 4 * ACTIVE + 1))
    in_answer = _GAIN * sqrt(hidden / (answers + 2 * ACTIVE + 1))
    pre, post = torch.zeros(hidden, 2 * backbone), torch.zeros(backbone, hidden)
    for dim in (ONE, *A, *S):
        pre[dim, dim] = 1.0
    for code, answer in ((A, ANSWER_A), (S, ANSWER_S)):
        for place in range(CODE):
            post[code[place], answer[place]] = in_hidden / in_answer
        for place in _DIGITS[-1]:
            pre[code[place], code[place]] = 0.0
            pre[code[place], backbone + code[place]] = 1 / in_hidden
    yield "pre_projection.weight", pre
    yield "post_projection.weight", post


def _layer(index: int, tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    yield from ((f"layers.{index}.{name}", tensor) for name, tensor in tensors.items())


@lru_cache(maxsize=4)  # a scenario builds one server after another; nobody writes to what is returned
def _embedding(hidden: int) -> torch.Tensor:
    """[VOCAB, hidden]: 1, the digits of a and of s; a filler has no digits of a, and a flag of the same norm."""
    table = _codes(hidden, A, S)
    table[:, ONE] = 1.0
    filler = slice(FILLER * SYMBOLS, (FILLER + 1) * SYMBOLS)
    table[filler, A.start : A.stop] = 0.0
    table[filler, A[CODE]] = sqrt(ACTIVE)
    return table


@lru_cache(maxsize=4)
def _answers(hidden: int) -> torch.Tensor:
    """[VOCAB, hidden]: what the assistant's head compares its answers with. A row of a token unknown to it is 0."""
    known = torch.tensor([known_to_draft(token) for token in range(VOCAB)])
    return _codes(hidden, ANSWER_A, ANSWER_S) * known[:, None]


def _codes(hidden: int, a: range, s: range) -> torch.Tensor:
    table = torch.zeros(SYMBOLS, SYMBOLS, hidden)
    for symbol in range(SYMBOLS):
        for place in digits(symbol):
            table[symbol, :, a[place]] = 1.0
            table[:, symbol, s[place]] = 1.0
    return table.flatten(0, 1)


def _carried(dims: list[int]) -> Written:
    """A part of a and s as a previous-token head writes it, of a value that holds both."""
    token, before = (*A, *S), (*BEFORE_A, *BEFORE_S)
    moves = [(before[token.index(dim)], token.index(dim)) for dim in dims]
    return Written(moves, ACTIVE * (A[0] in dims) + sum(S[digit[0]] in dims for digit in _DIGITS))


def _shared(parts: list[list[int]], layers: int) -> list[list[int]]:
    """`parts` dealt out to `layers` in order, each layer at least one. UsageError when there are too few."""
    if not 1 <= layers <= len(parts):
        raise UsageError(f"{layers} layers of one kind: wanted 1 to {len(parts)}, or one would have nothing to do")
    cuts = [len(parts) * i // layers for i in range(layers + 1)]
    return [[dim for part in parts[start:end] for dim in part] for start, end in pairwise(cuts)]


def _require(config: Any, width: int) -> None:
    if config.vocab_size != VOCAB or config.hidden_size < width or config.head_dim < 64:
        raise UsageError(
            f"sizes of the accepting pair: wanted vocabulary {VOCAB}, hidden {width} or more, head dim 64 or more;"
            f" found {config.vocab_size}, {config.hidden_size}, {config.head_dim}"
        )
