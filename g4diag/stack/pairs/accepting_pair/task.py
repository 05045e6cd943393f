"""The task of the accepting pair: continue two interleaved walks, one known to the window and one to the far past.

A token is two symbols, a and s, of 128 each: token = 128 a + s. A symbol is three digits.
s walks a cycle that is redrawn every one to two windows, so only the window knows its next step, and what is older
says otherwise. A cycle has a length of its own, up to 0.9 windows and 128 tokens: each step of it was last seen exactly
that many tokens ago, so nearly every page of a window of 128 is the one that counts for some request.
a is a filler nearly everywhere. Its cycle of 125 symbols is told once, in pieces strewn over the first 85 % of the
prompt, and resumed at its end: each step stands at one far place, so every page counts for some token.
Standard library only: the process that holds a server imports this.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from g4diag.errors import UsageError

DIGITS = (8, 4, 4)  # a symbol's digits, the first counts 16
SYMBOLS = 128
VOCAB = SYMBOLS * SYMBOLS
FILLER = 1  # as a; 0 and 127 hold the special ids at both ends of the vocabulary
UNKNOWN_ONE_IN = 8

_CYCLE = range(FILLER + 1, SYMBOLS - 1)
_PIECES, _TOLD, _RESUMED = 25, 0.85, 4


def token(a: int, s: int) -> int:
    """The token of two symbols."""
    return SYMBOLS * a + s


def digits(symbol: int) -> tuple[int, int, int]:
    """Positions of a symbol's three digits among the 16 = 8 + 4 + 4 places of a one-hot code each."""
    high, rest = divmod(symbol, DIGITS[1] * DIGITS[2])
    return high, DIGITS[0] + rest // DIGITS[2], DIGITS[0] + DIGITS[1] + rest % DIGITS[2]


def known_to_draft(token_id: int) -> bool:
    """Whether the draft can say this token. One in eight it cannot, spread evenly by a multiplicative hash: a real
    draft is smaller than its target, and an accept length that stands at its ceiling shows no small change."""
    return (token_id * 2_654_435_761 >> 13) % UNKNOWN_ONE_IN != 0


def prompts(count: int, length: int, seed: int, window: int) -> list[list[int]]:
    """`count` prompts of `length` token ids, the same for the same arguments. UsageError when one has no room."""
    need = least(window)
    if length < need:
        raise UsageError(f"prompt of {length} tokens: the task wants {need} or more with a window of {window}")
    return [_prompt(length, random.Random(1_000_003 * seed + i), window) for i in range(count)]


def least(window: int) -> int:
    """Tokens a prompt must have to hold the task."""
    return max(window, round(_PIECES * (len(_CYCLE) // _PIECES + 2) / _TOLD) + 2)


def continued(ids: Sequence[int], count: int) -> list[int]:
    """The `count` tokens that rightly follow a prompt: the newest step of s, the only one of a."""
    after_a, after_s = _steps_told(tuple(ids))
    (a, s), found = divmod(ids[-1], SYMBOLS), []
    for _ in range(count):
        a, s = after_a[a], after_s[s]
        found.append(token(a, s))
    return found


@lru_cache(maxsize=64)  # a request's drafts are held against its prompt again and again
def _steps_told(ids: tuple[int, ...]) -> tuple[dict[int, int], dict[int, int]]:
    """What follows each a, and each s, by this prompt."""
    symbols = [divmod(token_id, SYMBOLS) for token_id in ids]
    after_s = {s: after for (_, s), (_, after) in pairwise(symbols)}
    after_a = {a: after for (a, _), (after, _) in pairwise(symbols) if FILLER not in (a, after)}
    return after_a, after_s


def accepted(drafted: Sequence[int], right: Sequence[int]) -> int:
    """Tokens one verify step yields: the leading draft tokens that are right, and the target's own after them."""
    return 1 + next((i for i, (x, y) in enumerate(zip(drafted, right, strict=True)) if x != y), len(drafted))


def _prompt(length: int, generator: random.Random, window: int) -> list[int]:
    return list(map(token, _far_walk(length, generator), _window_walk(length, generator, window)))


def _window_walk(length: int, generator: random.Random, window: int) -> list[int]:
    """Segments of one cycle each, the last at least a window long."""
    longest = min(SYMBOLS, int(0.9 * window))
    walk: list[int] = []
    while len(walk) < length:
        cycle = generator.sample(range(SYMBOLS), generator.randint(longest // 6, longest))
        segment = [cycle[i % len(cycle)] for i in range(generator.randint(window, 2 * window))]
        walk = segment + walk  # from the end, so that the last segment is whole
    return walk[-length:]


def _far_walk(length: int, generator: random.Random) -> list[int]:
    """Fillers, the cycle in pieces at random places, and its resumption."""
    cycle = generator.sample(list(_CYCLE), len(_CYCLE))
    step = len(cycle) // _PIECES
    walk = [FILLER] * length
    room = int(_TOLD * length) / _PIECES
    for i, start in enumerate(generator.sample(range(0, len(cycle), step), _PIECES)):
        piece = _steps(cycle, start, step + 1)
        at = int(i * room) + 1 + generator.randrange(int(room) - len(piece))  # never 0, which has nothing before it
        walk[at : at + len(piece)] = piece
    walk[-_RESUMED:] = _steps(cycle, generator.randrange(len(cycle)), _RESUMED)
    return walk


def _steps(cycle: list[int], start: int, count: int) -> list[int]:
    return [cycle[(start + i) % len(cycle)] for i in range(count)]
