"""trtllm_mha's FMHAv2 prefill: the pages that its blocks stand for are seen at the kernel's call and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.install import Hook, install
from g4diag.model import AttentionRead, LayerKind, View
from g4diag.scenario.measure import judge_all
from g4diag.stack.backends.trtllm_mha import ATTENTION
from g4diag.stack.drive import cpu, fmha_v2_prefill
from g4diag.stack.drive.reference import PagedAttention
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.probes.contract import Context, made
from g4diag.stack.probes.workers import Backends
from tests.stack.backends.device_checks import armed, raising, said

pytestmark = pytest.mark.skipif(not ATTENTION.calls_here(), reason="this release does not expand its tables")
EXPAND = f"{ATTENTION.backend}._fmha_v2_paged_inputs"
OUTSIDE, WRONG = "page_table_stays_in_pool", "page_table_in_layer_space"
Break = Callable[[Any], None]
each_form = pytest.mark.parametrize("offsets", [True, False], ids=["offsets", "copy"])


class Calls(PagedAttention):
    prefills = 0

    def prefill(self, **arguments: Any) -> Any:
        self.prefills += 1
        return super().prefill(**arguments)


@contextmanager
def served(hooks: list[Hook], offsets: bool | None) -> Iterator[tuple[Serving, Calls]]:
    """offsets: the form of the blocks; None for another kernel."""
    kernel = Calls()
    with (
        cpu.attention_kernels(kernel.decode, kernel.prefill),
        fmha_v2_prefill.kernel(kernel.prefill),
        install("test", hooks),
    ):
        serving = Serving(Geometry(requests=3), seed=0)
        if offsets is not None:
            fmha_v2_prefill.prefill_by_blocks(serving, offsets=offsets)
        yield serving, kernel


def tokens(serving: Serving) -> list[list[int]]:
    for rid, ids in serving.prompts():
        serving.admit(rid, ids)
        serving.decode()
    return [list(req.output_ids) for req in serving.running.reqs]


def breaking(broken: Break | None) -> list[Hook]:
    """broken: gets what the kernel will be handed as its blocks."""

    def after(result: Any, *args: Any, **kwargs: Any) -> None:
        if broken is not None:
            broken(result[1])

    return [Hook(EXPAND, "after", after)]


def seen(offsets: bool, broken: Break | None = None) -> list[AttentionRead]:
    """Reads of extends; that of the table comes before that of the blocks."""
    views: list[View] = []
    workers = Backends(views.append)
    probes = made(Context(workers, views.append), frozenset({AttentionRead}))
    hooks = [*breaking(broken), *workers.hooks(), *(hook for probe in probes for hook in probe.hooks())]
    with served(hooks, offsets) as (serving, kernel):
        tokens(serving)
    reads = [view for view in views if isinstance(view, AttentionRead) and view.phase == "extend"]
    assert len(reads) == 2 * kernel.prefills > 0
    return reads


@each_form
def test_healthy_it_reads_the_same_and_is_silent(offsets: bool) -> None:
    with served([], None) as (serving, _):
        wanted = tokens(serving)
    with served([], offsets) as (serving, kernel):
        assert tokens(serving) == wanted and kernel.prefills > 3
    reads = seen(offsets)
    assert not [violation for read in reads for violation in judge_all(read)]
    for table, blocks in zip(reads[::2], reads[1::2], strict=True):
        assert len(blocks.page_table_BP) == (2 if offsets else 1) * len(table.page_table_BP)
        assert blocks.expected_BP() is not None and blocks.live_BP().any() and blocks.batch_lens_B is not None
        (columns,) = blocks.live_BP()[0].nonzero()
        assert (blocks.page_table_BP[0, columns] == table.page_table_BP[0, columns]).all()
    assert {read.layer_kind for read in reads} == set(LayerKind)


def shifted(blocks: Any) -> None:
    """V of the page after."""
    blocks[:, 1] += 1


def far(blocks: Any) -> None:
    blocks[..., :1] += 100_000


def reversed_rows(blocks: Any) -> None:
    blocks.copy_(blocks.flip(-1))


@pytest.mark.parametrize(
    ("offsets", "broken", "trap"),
    [(True, shifted, WRONG), (True, far, OUTSIDE), (False, far, OUTSIDE), (False, reversed_rows, WRONG)],
)
def test_what_is_wrong_in_the_blocks_is_named_and_the_table_is_not(offsets: bool, broken: Break, trap: str) -> None:
    reads = seen(offsets, broken)
    assert not [violation for read in reads[::2] for violation in judge_all(read)]
    assert trap in {violation.trap for read in reads[1::2] for violation in judge_all(read)}


# An interpreted check is slow: `contain` does what `warn` does and more, so healthy reads are run under it alone.
@each_form
@pytest.mark.parametrize(("broken", "level"), [(None, "contain"), (far, "warn"), (far, "contain")])
def test_the_device_check_judges_them(
    level: str, broken: Break | None, offsets: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = armed(level, tmp_path)
    with served([], offsets) as (serving, _):
        wanted = tokens(serving)
    with served([*breaking(broken), *live.hooks()], offsets) as (serving, _):
        live.begin_step()
        found = tokens(serving)
        with raising("page", broken is not None and level == "contain"):
            live.end_step(serving.rid_of)
    assert live.device is not None and live.device.launches > 10
    lines = said(caplog)
    assert bool(lines) == bool(broken)
    assert broken is not None or found == wanted, "contained and healthy, it reads what it read"
