"""The kernel that fills trtllm_mha's eager page tables, against guarded buffers: what healthy sglang gets wrong is
pinned.

A verify looks up the keys of its draft tokens too, and the table has as many columns as the context has pages. The
kernel counts pages by length alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import Hook, install
from g4diag.hooks.targets import imported
from g4diag.patches.backend_rule import BACKEND
from g4diag.scenario.applicable import missing
from g4diag.stack.drive import cpu
from g4diag.stack.drive.backends import PAGE, SMALL, verify_batch
from g4diag.stack.drive.serving import Serving

MODULE = BACKEND.rpartition(".")[0]
BUILDER = f"{MODULE}.build_trtllm_mha_page_table"
pytestmark = pytest.mark.skipif(
    bool(missing(((MODULE, "build_trtllm_mha_page_table("),))),
    reason="this release cuts eager tables from req_to_token: it has no builder",
)
DRAFTED, NOBODYS = 4, -7
CONTEXTS = (112, 128, 144)
alive = pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="alive since 0.5.14, the first release that has the builder"
)


@dataclass
class Guard:
    """Stands around the builder: it fills tables that lie in larger buffers, a row of NOBODYS behind each. pages: of
    the longest request that it was asked for. columns: of the tables. spilt: what it wrote behind them."""

    pages: int = 0
    columns: int = 0
    spilt: list[int] = field(default_factory=list)

    def __call__(self, original: Callable[..., None], **arguments: Any) -> None:
        names = [name for name in ("page_table", "swa_page_table") if arguments[name] is not None]
        buffers = {name: _guarded(arguments[name]) for name in names}
        original(**arguments | {name: buffer[:-1] for name, buffer in buffers.items()})
        self.columns = arguments["page_table"].shape[1]
        self.pages = -(-int(arguments["cache_seqlens"].max()) // arguments["page_size"])
        for name, buffer_BP in buffers.items():
            if (buffer_BP[:-1, 0] == NOBODYS).any():
                pytest.fail(f"{name}: the builder filled nothing")
            arguments[name].copy_(buffer_BP[:-1])
            self.spilt += buffer_BP[-1][buffer_BP[-1] != NOBODYS].tolist()

    def must_have_seen(self, more: int) -> None:
        """Not an AssertionError, which is what is expected of a test that is pinned."""
        if not self.columns or self.pages != self.columns + more:
            pytest.fail(f"wanted {more} pages more than columns, found {self.pages} pages, {self.columns} columns")


def _guarded(table_BP: torch.Tensor) -> torch.Tensor:
    """A buffer with a row more."""
    return torch.full((len(table_BP) + 1, table_BP.shape[1]), NOBODYS, dtype=table_BP.dtype)


def built(context: int, keys: int) -> Guard:
    """sglang's own builder, of two requests with so many keys each, in tables that `context` tokens fit in."""
    cpu.prepare_environment()
    req_to_token = torch.arange(3 * (context + PAGE), dtype=torch.int32).view(3, -1)
    tables = [torch.full((2, context // PAGE), NOBODYS, dtype=torch.int32) for _ in range(2)]
    guard = Guard()
    guard(
        imported(BUILDER),
        req_to_token=req_to_token,
        req_pool_indices=torch.tensor([1, 2]),
        cache_seqlens=torch.full((2,), keys, dtype=torch.int32),
        page_table=tables[0],
        page_size=PAGE,
        swa_page_table=tables[1],
        full_to_swa=torch.arange(req_to_token.numel()),
    )
    return guard


def verified(context: int, below: int) -> Guard:
    """A target verify of the real backend, of a request that ends `below` tokens short of the context."""
    serving = Serving(replace(SMALL, prompt=SMALL.prompt + context - SMALL.context), 0)
    assert serving.geometry.context == context
    batch = verify_batch(serving, context - below)  # first: it makes the rows that the backend is to read
    backend, guard = imported(BACKEND)(serving.runner), Guard()
    with install("test", [Hook(BUILDER, "around", guard.__call__)]):
        backend.init_forward_metadata(batch)
    return guard


@alive
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_row_that_is_longer_than_the_table_stays_in_the_buffer(context: int) -> None:
    """A find in healthy sglang, 0.5.14 to 0.5.23: the last page of the last request lies behind the buffer. (Those of
    the others are written over the next row's first page.)"""
    guard = built(context, context - 3 + DRAFTED)
    guard.must_have_seen(more=1)
    assert guard.spilt == []


@alive
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_verify_at_the_contexts_end_stays_in_the_buffer(context: int) -> None:
    """The same, as the backend asks for it: of the longest request that the scheduler admits."""
    guard = verified(context, below=3)
    guard.must_have_seen(more=1)
    assert guard.spilt == []


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_row_that_fits_stays_in_the_buffer(context: int) -> None:
    for guard in (built(context, context), verified(context, below=DRAFTED)):
        guard.must_have_seen(more=0)
        assert guard.spilt == []


def test_a_context_that_the_grid_ends_with_stays_in_the_buffer() -> None:
    """A program fills 4096 tokens' pages, and there are as many programs as columns ask for."""
    guard = built(4096, 4096 - 3 + DRAFTED)
    guard.must_have_seen(more=1)
    assert guard.spilt == []
