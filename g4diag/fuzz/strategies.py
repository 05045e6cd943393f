"""Strategies for machines: what a step may ask of the machine as it stands now.

Each looks at the running machine, so a drawn value is a plain one and a shrunk program runs by itself. A strategy for
what the machine looks like is made once: Hypothesis asks a new one many questions before it draws from it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from g4diag.stack import releases

_KEPT = 1024  # strategies of a kind


def tokens(pages: int) -> st.SearchStrategy[int]:
    """1 .. pages pages' worth of tokens, page edges as likely as all the rest. The machine has `page_size`."""
    return st.runner().flatmap(lambda m: _tokens(pages, m.page_size))


@lru_cache(_KEPT)
def _tokens(pages: int, page_size: int) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(1, pages * page_size), st.integers(1, pages).map(lambda n: n * page_size))


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
    return st.runner().flatmap(lambda m: _some_of(tuple(m.live()), min_size, max_size))


@lru_cache(_KEPT)
def _some_of(values: tuple[Any, ...], min_size: int, max_size: int | None) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), unique=True, min_size=min_size, max_size=max_size)


def pool_pages() -> st.SearchStrategy[tuple[int, int]]:
    """(full pages, SWA pages): from the tightest pools that admit anything to ratios below, at and above one."""
    return st.one_of(
        st.tuples(st.integers(2, 12), st.integers(2, 12)),
        st.integers(2, 12).map(lambda n: (n, n)),
        st.integers(8, 24).map(lambda n: (n, max(2, n // 5))),
    )


def windows(page_sizes: tuple[int, ...]) -> st.SearchStrategy[tuple[int, int]]:
    """(page size, window in tokens): windows below, at and above the page; a key less than whole pages too, as caches
    keep."""
    return st.sampled_from(page_sizes).flatmap(
        lambda page: st.tuples(
            st.just(page),
            st.one_of(
                st.integers(1, max(8, page + page // 2)),
                st.sampled_from([max(1, page // 2), max(1, page - 1), page, 2 * page - 1, 2 * page]),
            ),
        )
    )


def prompts() -> st.SearchStrategy[tuple[int, int, int, int]]:
    """(text, shared, own, token): the first `shared` tokens of a text that the machine has in `texts`, page edges as
    likely as all the rest, then `own` times `token`. The machine has `page_size` and `longest_prompt`."""
    return st.runner().flatmap(lambda m: _prompts(len(m.texts), m.longest_prompt, m.page_size))


@lru_cache(_KEPT)
def _prompts(texts: int, longest: int, page_size: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
    edges = st.integers(0, longest // page_size).flatmap(
        lambda n: st.integers(0, 2).map(lambda past: n * page_size + past)
    )
    shared = st.one_of(st.integers(0, longest), edges)
    own = st.one_of(st.integers(1, 3), st.integers(1, 2 * page_size))
    return st.tuples(st.integers(0, texts - 1), shared, own, st.integers(0, 2))


def running() -> st.SearchStrategy[list[str]]:
    """Distinct requests that decode. The machine has `running_rids()`."""
    return st.runner().flatmap(lambda m: _some_of(tuple(m.running_rids()), 1, None))


def paddings() -> st.SearchStrategy[int | None]:
    """Rows more than the batch that a graph was captured with; None for a step without a graph."""
    return st.one_of(st.none(), st.integers(0, 3))


def draft_numbers() -> st.SearchStrategy[int]:
    """Which of the machine's `drafts`."""
    return st.runner().flatmap(lambda m: st.integers(0, len(m.drafts) - 1))
