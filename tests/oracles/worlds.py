"""Random servers whose arrays agree with each other: pools, a mapping, requests, a batch, and what was recorded of it.

Nothing of a healthy world breaks a claim. `faults` damages one. Letters as in the model: B rows, P columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from g4diag import model
from g4diag.model import AttentionRead, IndexMapping, IndexSpace, LayerKind, PoolView

_SIZES = (1, 2, 16, 64)
BACKEND = "TRTLLMHAAttnBackend"


@dataclass
class Request:
    """pages: full ones, in position order. row: its request row."""

    rid: str
    row: int
    keys: int
    pages: list[int]


@dataclass
class World:
    """size: tokens a page. swa_of: full page -> SWA page, of what is mapped. batch: requests with a row."""

    rng: Random
    size: int
    full_pages: int
    swa_pages: int
    window: int
    q_len: int
    requests: list[Request] = field(default_factory=list)
    swa_of: dict[int, int] = field(default_factory=dict)
    batch: int = 1
    padding: int = 0

    def mapping(self, size: int) -> IndexMapping:
        """As the allocator's, -1 at its end, for ids that stand for `size` tokens."""
        slots_M = np.zeros(self.full_pages * self.size + 1, dtype=np.int64)
        for full, swa in self.swa_of.items():
            slots_M[full * self.size : (full + 1) * self.size] = np.arange(self.size) + swa * self.size
        slots_M[-1] = -1
        return IndexMapping(slots_M, size)

    def live(self, name: str) -> list[int]:
        """Pages that are in use."""
        full = {page for request in self.requests for page in request.pages}
        return sorted(full if name == "full" else {self.swa_of[page] for page in full if page in self.swa_of})

    def pool(self, name: str, *, listed: bool = True) -> PoolView:
        pages = self.full_pages if name == "full" else self.swa_pages
        free = sorted({*range(1, pages)} - {*self.live(name)})
        self.rng.shuffle(free)
        space = IndexSpace.FULL_PAGE if name == "full" else IndexSpace.SWA_PAGE
        return PoolView(name, space, self.size, pages, np.array(free, dtype=np.int64) if listed else None)


def world(rng: Random) -> World:
    """Requests with pages, cached prefixes that they share, and windows that passed over some of them."""
    size, window_pages = rng.choice(_SIZES), rng.choice((0, 1, 2))
    window = max(window_pages * size + rng.choice((-1, 0, 1)), 0)
    made = World(rng, size, rng.randint(30, 40), 0, window, rng.choice((1, 1, 2, 4)))
    made.swa_pages = rng.choice((made.full_pages, rng.randint(26, 30)))
    free = list(range(1, made.full_pages))
    if rng.random() < 0.7:
        rng.shuffle(free)
    for n in range(rng.randint(1, 4)):
        keys = rng.randint(made.q_len, 5 * size + 3)
        first = made.requests[0] if made.requests else None
        shared = min((keys - 1) // size, (first.keys if first else 0) // size) if rng.random() < 0.4 else 0
        pages = first.pages[: rng.randint(0, shared)] if first else []
        need = -(-keys // size) - len(pages)
        if need > len(free) - 2:
            break
        pages = pages + [free.pop(0) for _ in range(need)]
        made.requests.append(Request(f"r{n}", n + 1, keys, pages))
    if not made.requests:
        made.requests = [Request("r0", 1, made.q_len, [free.pop(0) for _ in range(-(-made.q_len // size))])]
    _map(made)
    made.batch = rng.randint(1, len(made.requests))
    made.padding = rng.choice((0, 0, 1, 2))
    return made


def _map(made: World) -> None:
    """SWA pages of what some window still sees, and of some of the rest."""
    rng, identity = made.rng, made.rng.random() < 0.25
    pages = {page for request in made.requests for page in request.pages}
    seen = {
        page
        for request in made.requests
        for page in request.pages[max(request.keys - made.q_len - made.window, 0) // made.size :]
    }
    keep = {page for page in pages if page in seen or rng.random() < 0.3}
    if identity and max(keep) < made.swa_pages:
        made.swa_of = {page: page for page in keep}
        return
    swa = rng.sample(range(1, made.swa_pages), min(len(keep), made.swa_pages - 1))
    keep = {*sorted(seen)[: len(swa)]} | {*sorted(keep - seen)[: max(len(swa) - len(seen), 0)]}
    made.swa_of = dict(zip(sorted(keep), swa, strict=False))


def read(made: World, name: str, *, flat: bool) -> AttentionRead:
    """What a layer of that pool is handed: pages, or from the window on the slots of single tokens."""
    rng, size = made.rng, 1 if flat else made.size
    rows = made.requests[: made.batch]
    held = [_ids(request, made.size if flat else 1) for request in rows] + [[]] * made.padding
    lens = [request.keys for request in rows] + [made.q_len] * made.padding
    start = [0] * len(lens)
    if flat and rng.random() < 0.5:
        start = [max(keys - made.q_len - made.window, 0) if name == "swa" else 0 for keys in lens]
    columns = max(max(len(ids) - at for ids, at in zip(held, start, strict=True)), -(-made.q_len // size))
    columns += rng.choice((0, 0, 2))
    full_BP = np.zeros((len(lens), columns), dtype=np.int64)
    for row, ids in enumerate(held):
        full_BP[row, : len(ids[start[row] :])] = ids[start[row] :]
    mapping = made.mapping(size)
    pool = made.pool(name)
    table_BP = np.array([[_id(made, page, size, name) for page in row] for row in full_BP.tolist()], dtype=np.int32)
    table_BP = table_BP.reshape(full_BP.shape)
    space = pool.slot_space if flat else pool.space
    return AttentionRead(
        step=rng.randint(1, 99),
        worker=rng.choice(("target", "draft")),
        phase="decode" if made.q_len == 1 else "target_verify",
        path="graph" if made.padding else "eager",
        backend=BACKEND,
        layer_id=rng.randint(0, 5) * 2 + (name == "swa"),
        layer_kind=LayerKind.SWA if name == "swa" else LayerKind.FULL,
        window_left=made.window if name == "swa" else -1,
        pool=PoolView(name, space, 1, pool.num_pages * made.size) if flat else pool,
        table_space=rng.choice((space, None)),
        page_table_BP=table_BP,
        seq_lens_B=np.array(lens, dtype=np.int32),
        q_len=made.q_len,
        rids=tuple(request.rid for request in rows) if rng.random() < 0.8 else (),
        req_rows_B=np.array([request.row for request in rows] + [0] * made.padding, dtype=np.int64),
        full_page_table_BP=full_BP,
        mapping=mapping,
        batch_rows=rng.choice((len(rows), None)),
        batch_lens_B=np.array(lens, dtype=np.int64) if rng.random() < 0.8 else None,
        first_B=np.array(start, dtype=np.int64) if any(start) else None,
        **_written_down(made, name, size, full_BP),
        row_owners=_row_owners(made, rows) if rng.random() < 0.8 else None,
    )


def _written_down(made: World, name: str, size: int, full_BP: Any) -> dict[str, Any]:
    """What was known before the read: of a table of pages, whose size; of the SWA pool, pages and windows too."""
    found: dict[str, Any] = {}
    if size == made.size and made.rng.random() < 0.8:
        found |= {"backend_page_size": size, "allocator_page_size": made.rng.choice((size, None))}
    if name == "swa" and made.rng.random() < 0.8:
        pages = [_id(made, page, size, name) for page in full_BP.ravel().tolist()]
        found["handed_out_BP"] = np.array(pages, dtype=np.int64).reshape(full_BP.shape)
        found["windows"] = model.Windows(made.window - made.rng.choice((0, 1)), made.window, made.window)
    return found


def _row_owners(made: World, rows: list[Request]) -> model.RowOwners:
    """Rows of padding are nobody's."""
    rest = made.padding
    taken_B = np.array([request.keys for request in rows] + [-1] * rest, dtype=np.int64)
    rids = (*(request.rid for request in rows), *[""] * rest)
    return model.RowOwners(
        rids, np.array([request.row for request in rows] + [-1] * rest), taken_B, rids, taken_B.copy()
    )


def _ids(request: Request, per_page: int) -> list[int]:
    """Its pages, or the slots of its keys."""
    if per_page == 1:
        return request.pages
    return [page * per_page + n for page in request.pages for n in range(per_page)][: request.keys]


def _id(made: World, full: int, size: int, name: str) -> int:
    if name == "full":
        return full
    page, rest = divmod(full * size, made.size)
    return (made.swa_of.get(page, 0) * made.size + rest) // size if page in made.swa_of else 0


def incident(made: World) -> model.Incident:
    """All that an armed server records of it."""
    rng = made.rng
    reads = [read(made, name, flat=made.size > 1 and rng.random() < 0.3) for name in ("full", "swa")]
    rng.shuffle(reads)
    listed = rng.random() < 0.8
    pools = tuple(made.pool(name, listed=listed or rng.random() < 0.5) for name in ("full", "swa"))
    return model.Incident(
        "g4diag",
        reads=tuple(reads[: rng.choice((1, 2, 2))]),
        pools=pools if rng.random() < 0.9 else (),
        mapping=made.mapping(made.size) if rng.random() < 0.8 else None,
        requests=tuple(
            model.RequestView(request.rid, request.row, request.keys, np.array(request.pages, dtype=np.int64))
            for request in made.requests
        )[: rng.choice((0, 4, 4))],
        free_lists=tuple(
            model.FreeList(made.pool(name), np.array(made.live(name), dtype=np.int64)) for name in ("full", "swa")
        ),
        ring=_ring(made) if rng.random() < 0.5 else (),
        **_calls(made),
    )


def _calls(made: World) -> dict[str, Any]:
    """Each request's pages handed out and mapped; one that ran before and was freed; what this step writes."""
    rng, live = made.rng, set[int]()
    allocations, updates = [], []
    for request in made.requests:
        fresh = [page for page in request.pages if page not in live]
        slots = _slots(fresh, made.size)
        before = np.array(sorted(live), dtype=np.int64) if rng.random() < 0.9 else None
        allocations.append(model.Allocation(rng.choice(("alloc", "alloc_extend")), made.pool("full"), slots, before))
        swa = np.array([_id(made, int(slot), 1, "swa") for slot in slots], dtype=np.int64)
        updates.append(model.MappingUpdate("alloc_extend", slots, swa, swa.copy()))
        live |= {*fresh}
    gone = sorted({*range(1, made.full_pages)} - live)[:2]
    freed, zeros = _slots(gone, made.size), np.zeros(len(gone) * made.size, dtype=np.int64)
    updates.append(model.MappingUpdate("free", freed, zeros, zeros.copy()))
    full = np.array([_ids(request, made.size)[-1] if made.size > 1 else request.pages[-1] for request in made.requests])
    writes = []
    for name in ("full", "swa"):
        slots = np.array([_id(made, int(slot), 1, name) for slot in full], dtype=np.int64)
        kind = LayerKind.SWA if name == "swa" else LayerKind.FULL
        labels = "target", "decode", "eager", BACKEND, 6 + (name == "swa"), kind, made.pool(name), None, len(full)
        handed = slots.copy() if name == "swa" and rng.random() < 0.8 else None
        writes.append(model.KVSlots(*labels, slots, full.astype(np.int64), made.mapping(made.size), handed))
    return {
        "allocations": tuple(allocations),
        "releases": (model.Release(made.pool("full"), freed, np.array([*gone, *sorted(live)], dtype=np.int64)),),
        "mapping_updates": tuple(updates),
        "kv_slots": tuple(writes),
        "kv_writes": (model.KVWrite("", "target:SWAKVPool", 1, 4),),
        "query_rows": (model.QueryRows("draft", "decode", "eager", BACKEND, 3, 4, 64, 64),),
        "others": tuple(_matches(made)),
        "swaps": (model.PoolSwap("frozen_kv_target_view", "enter", BACKEND, "a", True, "a", frozen_kv=True),),
    }


def _matches(made: World) -> Iterator[model.PrefixMatch]:
    """Whole pages of the first request's that a cache has, as long as all of the window is mapped."""
    request = made.requests[0]
    slots = _slots(request.pages, made.size)
    window = slots[-made.window :] if made.window else slots
    mapped = np.array([_id(made, int(slot), 1, "swa") for slot in window], dtype=np.int64)
    if (mapped > 0).all():
        yield model.PrefixMatch("SWARadixCache", len(slots), made.window, window, mapped)


def _slots(pages: list[int], size: int) -> Any:
    return np.array([page * size + n for page in pages for n in range(size)], dtype=np.int64)


def _ring(made: World) -> tuple[model.RingRecord, ...]:
    """Steps that end as full as the world is; some counts are not known."""
    rng, records = made.rng, []
    sizes = [(pages - 1) * made.size for pages in (made.full_pages, made.swa_pages)]
    for n in range(rng.randint(1, 5)):
        free = [rng.choice((size, size // 2, size - made.size, 0 if rng.random() < 0.1 else 1)) for size in sizes]
        known = {"full_size": sizes[0], "full_free": free[0], "swa_size": sizes[1], "swa_free": free[1]}
        counts = {"freed": n * 4, "swa_freed": n * 4 + rng.choice((0, 0, 8)), "refused": n * rng.choice((0, 1))}
        records.append(model.RingRecord(n, n * 10, "step", n + 3, "DECODE", made.batch, waiting=n, **known, **counts))
        if rng.random() < 0.2:
            records[-1] = model.RingRecord(n, n * 10, "step", n + 3, swa_size=sizes[1], full_size=sizes[0])
    return tuple(records)
