"""Strategies for machines: what a step may ask of the machine as it stands now.

Each looks at the running machine, so a drawn value is a plain one and a shrunk program runs by itself. The values there
are for what the machine looks like are listed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import permutations
from typing import Any

from hypothesis import strategies as st

from g4diag.fuzz.of_machine import Number, OfMachine
from g4diag.stack import releases

_KEPT = 1024  # lists of a kind
_ORDERED, _SELECTIONS = 4, 64  # values of which every selection in every order is listed, and how many these are


def tokens(pages: int) -> st.SearchStrategy[int]:
    """1 .. pages pages' worth of tokens, page edges as likely as all the rest. The machine has `page_size`."""
    return OfMachine("tokens", lambda m, number: one_of(_tokens(pages, m.page_size), number))


@lru_cache(_KEPT)
def _tokens(pages: int, page_size: int) -> tuple[int, ...]:
    return either(range(1, pages * page_size + 1), range(page_size, pages * page_size + 1, page_size))


def one_of(values: Sequence[Any], number: Number) -> Any:
    """One of these, the first the simplest."""
    return values[number(len(values))]


def either(ones: Sequence[int], others: Sequence[int]) -> tuple[int, ...]:
    """Values to sample from, with the ones about as likely as the others. One choice of Hypothesis's, where a strategy
    for which of the two and one for the value would take three."""
    most = max(len(ones), len(others))
    return tuple(value for values in (ones, others) for _ in range(-(-most // len(values))) for value in values)


def iterations() -> st.SearchStrategy[int]:
    """1 .. 40, or as likely 4 .. a page's worth of tokens and 3. The machine has `page_size`."""
    return OfMachine("iterations", lambda m, number: one_of(_iterations(m.page_size), number))


@lru_cache(_KEPT)
def _iterations(page_size: int) -> tuple[int, ...]:
    return either(range(1, 41), either(range(4, page_size + 4), [page_size + 3]))


def lengths(most: int, pages: int) -> st.SearchStrategy[list[int]]:
    """1 .. most of `tokens(pages)`."""

    def drawn(m: Any, number: Number) -> list[int]:
        values = _tokens(pages, m.page_size)
        return [one_of(values, number) for _ in range(number(most) + 1)]

    return OfMachine("lengths", drawn)


def backend_sizes(page_sizes: tuple[int, ...]) -> dict[str, Any]:
    """How a server is built whose attention backend is driven, a strategy for each argument of its start."""
    return {
        "page_size": st.sampled_from(page_sizes),
        "pages": pool_pages(),
        "window": st.integers(1, 80),
        "context_pages": st.integers(1, 6),
        "short_of": st.integers(0, 3),
        "drafts": st.integers(2, 6),
        "others": st.integers(0, 16),
        "wrapped": st.booleans(),
        "verify_in": st.sampled_from(["prefill", "decode"]),
    }


def of_release(**asked: Callable[[], tuple[Any, ...]]) -> dict[str, Any]:
    """A strategy for each argument of a step that the installed release leaves a choice; none for the others, nor
    without sglang, so that the same seed makes the same program whatever other releases offer. asked: argument -> the
    values there are."""
    if releases.chosen() is None:
        return {}
    choices = {name: ask() for name, ask in asked.items()}
    return {name: st.sampled_from(values) for name, values in choices.items() if len(values) > 1}


def requests(min_size: int = 1, max_size: int | None = None) -> st.SearchStrategy[list[int]]:
    """Distinct live requests. The machine has `live()`, their ids."""
    return OfMachine("requests", lambda m, number: some_of(tuple(m.live()), min_size, max_size, number))


def some_of(values: tuple[Any, ...], min_size: int, max_size: int | None, number: Number) -> list[Any]:
    """Distinct ones of these in any order, rather many than few. One choice where there are few."""
    most = min(len(values), len(values) if max_size is None else max_size)
    if len(values) <= _ORDERED:
        every = _selections(values, min_size, most)
        # Of one range whoever is there: the shrinker leaves steps out, and a later choice must still be one.
        return list(every[number(_SELECTIONS) % len(every)])
    left = list(values)
    return [left.pop(number(len(left))) for _ in range(min_size + number(most - min_size + 1))]


@lru_cache(_KEPT)
def _selections(values: tuple[Any, ...], min_size: int, most: int) -> tuple[tuple[Any, ...], ...]:
    return tuple(each for size in range(min_size, most + 1) for each in permutations(values, size))


def pool_pages() -> st.SearchStrategy[tuple[int, int]]:
    """(full pages, SWA pages): from the tightest pools that admit anything to ratios below, at and above one."""
    some = [(full, swa) for full in range(2, 13) for swa in range(2, 13)]
    equal, few = [(n, n) for n in range(2, 13)], [(n, max(2, n // 5)) for n in range(8, 25)]
    return st.sampled_from([*some, *equal * (len(some) // len(equal)), *few * (len(some) // len(few))])


def windows(page_sizes: tuple[int, ...]) -> st.SearchStrategy[tuple[int, int]]:
    """(page size, window in tokens): each page size as likely; windows below, at and above the page; a key less than
    whole pages too, as caches keep."""
    kinds = []
    for page in page_sizes:
        edges = [max(1, page // 2), max(1, page - 1), page, 2 * page - 1, 2 * page]
        kinds.append([(page, window) for window in either(range(1, max(8, page + page // 2) + 1), edges)])
    most = max(map(len, kinds))
    return st.sampled_from([pair for kind in kinds for _ in range(round(most / len(kind))) for pair in kind])


def prompts(most: int) -> st.SearchStrategy[list[tuple[int, int, int, int]]]:
    """1 .. most of (text, shared, own, token): the first `shared` tokens of a text that the machine has in `texts`,
    page edges as likely as all the rest, then `own` times `token`. The machine has `page_size` and `longest_prompt`."""

    def drawn(m: Any, number: Number) -> list[tuple[int, int, int, int]]:
        return some_prompts(most, len(m.texts), m.longest_prompt, m.page_size, number)

    return OfMachine("prompts", drawn)


def some_prompts(
    most: int, texts: int, longest: int, page_size: int, number: Number
) -> list[tuple[int, int, int, int]]:
    """One choice a prompt, as a number of which each is a digit."""
    shared, own = _lengths_of_prompts(longest, page_size)
    kinds = texts * len(shared) * len(own) * 3
    return [_prompt(number(kinds), shared, own) for _ in range(number(most) + 1)]


@lru_cache(_KEPT)
def _lengths_of_prompts(longest: int, page_size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Those of the shared part and of a prompt's own."""
    edges = [n * page_size + past for n in range(longest // page_size + 1) for past in range(3)]
    return either(range(longest + 1), edges), either(range(1, 4), range(1, 2 * page_size + 1))


def _prompt(which: int, shared: Sequence[int], own: Sequence[int]) -> tuple[int, int, int, int]:
    which, token = divmod(which, 3)
    which, then = divmod(which, len(own))
    text, at = divmod(which, len(shared))
    return text, shared[at], own[then], token


def running() -> st.SearchStrategy[list[str]]:
    """Distinct requests that decode. The machine has `running_rids()`."""
    return OfMachine("running", lambda m, number: some_of(tuple(m.running_rids()), 1, None, number))


def paddings() -> st.SearchStrategy[int | None]:
    """Rows more than the batch that a graph was captured with; None for a step without a graph."""
    return st.sampled_from([*[None] * 4, 0, 1, 2, 3])


def draft_numbers() -> st.SearchStrategy[int]:
    """Which of the machine's `drafts`."""
    return OfMachine("drafts", lambda m, number: number(len(m.drafts)))
