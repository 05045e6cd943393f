"""A prefill's whole graph is held against the batch that its runner was handed; one that breaks at attention runs it
eagerly, where the host's traps see it. sglang's own runner and models, and our kernels, interpreted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("sglang.srt.model_executor.runner_backend.full_cuda_graph_backend")

from sglang.srt.model_executor.graph_shared_output import GraphSharedOutput
from sglang.srt.model_executor.runner import prefill_cuda_graph_runner as module
from sglang.srt.model_executor.runner_backend_utils.breakable_cuda_graph import breakable_cuda_graph as breaking
from sglang.srt.runtime_context import get_exec

from g4diag.hooks.install import install
from g4diag.model import AttentionRead, KVSlots
from g4diag.stack.drive import cpu
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.request_state import request_row
from g4diag.stack.drive.serving import Serving
from g4diag.stack.live.selection import traps
from g4diag.stack.live.sink import Live
from tests.injected import server as small
from tests.stack.live.test_device_graphs import armed, said

JUDGED = frozenset(
    {
        "table_is_of_this_step",
        "request_row_is_of_its_request",
        "kv_slots_in_layer_space",
        "page_in_window_is_mapped",
        "page_table_stays_in_pool",
        "page_table_in_layer_space",
    }
)
SIZES, ROWS = [64, 128], 2


class WholeGraphs(module.FullCudaGraphBackend):  # type: ignore[misc]
    """A graph is the captured closure, called again over the same static buffers."""

    def __init__(self, runner: Any) -> None:
        self._runner, self._graphs = runner, {}
        self.replays = 0

    def capture_one(self, shape_key: Any, forward_fn: Callable[[], Any], *args: Any, **kwargs: Any) -> None:
        forward_fn()
        metadata = self._runner.model_runner.attn_backend.forward_metadata
        self._graphs[shape_key] = forward_fn, dict(vars(metadata))

    @contextmanager
    def replay_session(self) -> Iterator[None]:
        yield

    def replay(self, shape_key: Any, *args: Any, **kwargs: Any) -> Any:
        self.replays += 1
        # For a replay the layers are put behind a call of the graph; the closure wants themselves, and the tensors of
        # the metadata that it was captured with.
        layers, now = vars(self._runner.layer_model), vars(self._runner.model_runner.attn_backend.forward_metadata)
        run, captured = self._graphs[shape_key]
        put, planned = layers.pop("forward"), dict(now)
        now.update(captured)
        try:
            return run()
        finally:
            layers["forward"] = put
            now.update(planned)


def prefilling(
    monkeypatch: pytest.MonkeyPatch, graphs: Any = None, name: str = "full", rows: int = ROWS, chunk: int = 0
) -> tuple[Serving, Any]:
    """A target on fa4 whose prefills are replayed, and its graph runner. rows: of its whole graphs."""
    server = Serving(replace(small.SIZES, chunk=chunk), seed=0, backend="fa4")
    server.allocator.swa_attn_allocator.alloc(small.PAGE)  # no page of the same number in both spaces
    driver().change_args(server.args, disable_chunked_prefix_cache=True)
    phase = get_exec().graph.cuda_graph_config.prefill
    for field, value in {"backend": name, "bs": SIZES, "full_prefill_max_req": rows}.items():
        monkeypatch.setattr(phase, field, value)
    runner = server.runner
    runner.model_config.hf_config.model_type = "gemma4"
    runner.layer_info = SimpleNamespace(start_layer=0)
    for missing in ("attention_layers", "mha_companion_layers", "moe_layers", "moe_fusions"):
        setattr(runner, missing, [])
    for width in ("topk_size", "residual_num_blocks", "dspark_hidden_size"):
        setattr(runner, f"get_pp_proxy_{width}", lambda: None)
    runner.graph_shared_output = GraphSharedOutput(device=torch.device("cpu"), max_rows=SIZES[-1])
    monkeypatch.setattr(module, "resolve_prefill_backend", graphs or WholeGraphs)

    class Runner(module.PrefillCudaGraphRunner):  # type: ignore[misc]
        """Captures each size in turn, largest first, without a stream."""

        def capture(self) -> None:
            for size in reversed(self.capture_num_tokens):
                self.capture_one_shape(size)

    runner.prefill_cuda_graph_runner = Runner(runner)
    return server, runner.prefill_cuda_graph_runner


def admitted(live: Live, server: Serving, rid: str, length: int) -> None:
    """A prefill, as a step."""
    live.begin_step()
    small.admit(server, rid, length)
    live.end_step(server.rid_of)


def test_healthy_prefills_in_whole_graphs_are_told_and_leave_no_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with armed(tmp_path, JUDGED) as live:
        server, runner = prefilling(monkeypatch)
        assert live.device is not None
        for i, length in enumerate((128, 100)):  # one padded after one that is not; of two rows one is padding
            before = live.device.launches, live.device.writes.launches
            admitted(live, server, f"r{i}", length)
            assert runner.backend.replays == i + 1
            assert live.device.launches > before[0] and live.device.writes.launches > before[1]
            told = live.device.told.of("target", "extend", torch.zeros(1))
            assert told is not None and (told.requests, told.tokens) == (1, length)
            assert told.lengths_M[:2].tolist() == [length, -1]
            assert told.rows_M[0] == request_row(server.running.reqs[i])
    assert not said(caplog)


def test_the_last_chunks_of_a_prefill_are_judged_from_their_own_window_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its graph was captured with a row of 64 new tokens; a chunk has 48, and a page before their window is gone."""
    with armed(tmp_path, JUDGED) as live:
        server, runner = prefilling(monkeypatch, rows=1, chunk=48)
        slots_RT, mapping = server.request_pool.req_to_token, server.allocator.full_to_swa_index_mapping
        gone = slice(2 * small.PAGE, 3 * small.PAGE)  # the last chunk reads from position 144 - 48 - 39 on

        def evict() -> None:
            if runner.backend.replays == 2:
                mapping[slots_RT[int(runner._prefill_static_buffers["req_pool_indices"][0]), gone].long()] = 0

        before_plan(server, evict)
        admitted(live, server, "r0", 144)
        assert runner.backend.replays == 3
        assert mapping[small.slots(server, 0)].eq(0).sum() == small.PAGE
    assert not said(caplog)


def before_plan(server: Serving, spoil: Callable[[], None]) -> None:
    """Let `spoil` at the runner's static buffers once they are filled, before the metadata is made of them."""
    honest = server.runner.attn_backend.init_forward_metadata_out_graph

    def planned(batch: Any, *args: Any, **kwargs: Any) -> None:
        spoil()
        honest(batch, *args, **kwargs)

    server.runner.attn_backend.init_forward_metadata_out_graph = planned


def a_page_less(runner: Any) -> Callable[[], None]:
    """The graph reads fewer keys than the batch has."""
    return lambda: runner._prefill_static_buffers["seq_lens"][0].sub_(small.PAGE)


def another_row(runner: Any) -> Callable[[], None]:
    """It reads the row of the request that came before."""
    return lambda: runner._prefill_static_buffers["req_pool_indices"][0].copy_(runner.g4diag_first_row)


def one_slot_off(runner: Any) -> Callable[[], None]:
    """Its last token is written one slot further."""
    return lambda: runner.buffer_registry.get_slot("out_cache_loc").buffer[99].add_(1)


FAULTS: dict[str, tuple[Callable[[Any], Callable[[], None]], str]] = {
    "a page less": (a_page_less, "table_is_of_this_step"),
    "another request's row": (another_row, "request_row_is_of_its_request"),
    "one slot off": (one_slot_off, "kv_slots_in_layer_space"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_static_buffers_of_a_whole_graph_is_named_by_the_trap_of_its_kind(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, expected = FAULTS[name]
    with armed(tmp_path, JUDGED) as live:
        server, runner = prefilling(monkeypatch)
        admitted(live, server, "r0", 100)
        runner.g4diag_first_row = torch.tensor(request_row(server.running.reqs[0]))
        assert not said(caplog), "healthy so far"
        before_plan(server, put(runner))
        admitted(live, server, "r1", 100)
    assert said(caplog) == [expected]
    (line,) = [record.message for record in caplog.records if "trap=" in record.message]
    assert "phase=extend" in line and "path=graph" in line


def test_a_mixed_batch_is_told_to_the_graph_that_it_replays(tmp_path: Path) -> None:
    """It was captured as an extend; what an extend before told is not left standing."""
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    with armed(tmp_path, JUDGED) as live:
        assert live.device is not None
        told = live.device.told.of("target", "extend", torch.zeros(1))
        runner = SimpleNamespace(model_runner=SimpleNamespace(is_draft_worker=False))
        for mode, value in (("EXTEND", 3), ("MIXED", 4)):
            one = torch.tensor([value])
            batch = SimpleNamespace(
                forward_mode=ForwardMode[mode],
                batch_size=1,
                seq_lens=one,
                req_pool_indices=one,
                out_cache_loc=one,
                rids=None,
            )
            live.device.told._replays(runner, batch, phase="extend")
            assert told is not None and told.rows_M[0] == told.slots_M[0] == value


class Segment:
    """In the place of a CUDA graph: it holds what was launched while it was captured, and a replay of that is not of
    interest here. What runs all the same is no part of it."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


class BrokenGraphs(module.BreakableCudaGraphBackend):  # type: ignore[misc]
    """sglang's own capture by segments, and its own replay."""

    def __init__(self, runner: Any) -> None:
        self._graphs, self._outputs, self.replays = {}, {}, 0

    def capture_one(self, shape_key: Any, forward_fn: Callable[[], Any], *args: Any, **kwargs: Any) -> None:
        self._graphs[shape_key] = breaking.BreakableCUDAGraph()
        with self.replay_session(), breaking.BreakableCUDAGraphCapture(self._graphs[shape_key]):
            self._outputs[shape_key] = forward_fn()

    def replay(self, *args: Any, **kwargs: Any) -> Any:
        self.replays += 1
        return super().replay(*args, **kwargs)


def test_a_prefill_in_pieces_runs_its_attention_eagerly_where_the_host_sees_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Segment)
    views: list[Any] = []

    def blind(query: Any, **arguments: Any) -> Any:
        return torch.zeros_like(query)

    live = Live([traps()[name] for name in sorted(JUDGED)], tmp_path)
    heard = live.sink
    monkeypatch.setattr(live, "sink", lambda view: (views.append(view), heard(view)))
    with cpu.attention_kernels(blind, blind), install("traps", live.hooks()):
        server, runner = prefilling(monkeypatch, BrokenGraphs, "breakable")
        layers = len(server.config.layer_types)
        assert all(len(graph._break_fns) == layers for graph in runner.backend._graphs.values())
        views.clear()
        admitted(live, server, "r0", 100)
        assert runner.backend.replays == 1
        reads, writes = ([view for view in views if isinstance(view, kind)] for kind in (AttentionRead, KVSlots))
        assert len(reads) == len(writes) == layers and {view.path for view in (*reads, *writes)} == {"eager"}
        assert all(read.seq_lens_B.tolist() == [100] for read in reads) and not said(caplog)
        small.change(server.runner.attn_backend, lambda metadata: metadata.cache_seqlens_int32.sub_(small.PAGE))
        admitted(live, server, "r1", 100)
        assert runner.backend.replays == 2
    assert said(caplog) == ["table_is_of_this_step"]
