"""What the tests of every backend that hands its kernels flat slots ask of the views of a healthy run."""

from __future__ import annotations

from collections.abc import Sequence

from g4diag.model import AttentionRead, IndexSpace, LayerKind, View


def every_forward_is_seen(views: Sequence[View]) -> None:
    """Target and draft, eager and in a graph, both kinds of layers; and rows that have left their window among them."""
    reads = [view for view in views if isinstance(view, AttentionRead)]
    assert {(r.worker, r.phase, r.path, r.layer_kind) for r in reads} == {
        (*forward, kind)
        for kind in LayerKind
        for forward in (
            ("target", "extend", "eager"),
            ("target", "decode", "eager"),
            ("draft", "draft_decode", "eager"),
            ("draft", "draft_decode", "graph"),
        )
    }
    assert all(read.pool.page_size == 1 for read in reads)
    # Nobody's are those that a graph is captured over.
    nobodys = [read for read in reads if read.expected_BP() is None]
    assert all(read.path == "graph" and not read.req_rows_B.any() for read in nobodys)
    assert len(nobodys) < len([read for read in reads if read.path == "graph"])
    sliding = [read for read in reads if read.layer_kind is LayerKind.SWA]
    assert any((read.first_B is not None and read.first_B > 0).any() for read in sliding), "no row ever left its window"
    assert sum(int(read.live_BP().sum()) for read in sliding) > 1000


def slots_have_the_layers_space(views: Sequence[View]) -> None:
    """Slots in the space of the layer's own pool, by label where the tensor tells it."""
    reads = [view for view in views if isinstance(view, AttentionRead) and view.live_BP().any()]
    assert {(read.layer_kind, read.expected_space, read.table_space) for read in reads} == {
        (LayerKind.FULL, IndexSpace.FULL_SLOT, IndexSpace.FULL_SLOT),
        (LayerKind.SWA, IndexSpace.SWA_SLOT, None),
    }
