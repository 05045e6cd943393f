"""Each trap's claim once more, from its docstring and the raw arrays: what is broken in one view, and at which ids.

No code is shared with g4diag/traps. A claim gives None where it holds, or where the view does not let it be judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from g4diag.model import Incident
from tests.oracles import arrays

Place = dict[str, Any]
Claim = Callable[[Any], "Broken | None"]


@dataclass(frozen=True)
class Broken:
    """count of checked ids break it, at these places. is_warning: nothing has diverged yet. A place's `said`: the
    numbers that the trap's sentence has to name."""

    count: int
    checked: int
    places: list[Place] = field(default_factory=lambda: [{}])
    is_warning: bool = False


def _in_call(view: Any, at: list[int], ids: list[int], **more: Any) -> Broken | None:
    places = [{"column": n, "value": ids[n], "said": [ids[n]], **more} for n in at]
    return Broken(len(at), len(ids), places) if at else None


def _page(slot: int, view: Any) -> int:
    return slot // int(view.pool.page_size)


def _again(ids: list[int]) -> list[int]:
    seen: set[int] = set()
    return [n for n, one in enumerate(ids) if one in seen or seen.add(one)]  # type: ignore[func-returns-value]


def draft_writes_no_kv(write: Any) -> Broken | None:
    return Broken(1, 1, [{"layer_id": write.layer_id, "said": [write.tokens]}]) if write.inside else None


def free_list_is_free(stock: Any) -> Broken | None:
    if stock.pool.free_pages_N is None:
        return None
    free, alive = stock.pool.free_pages_N.tolist(), set(stock.live_pages_N.tolist())
    outside = [n for n, page in enumerate(free) if not 1 <= page < stock.pool.num_pages]
    at = outside or [n for n, page in enumerate(free) if page in alive] or _again(free)
    return _in_call(stock, at, free, low=1, bound=stock.pool.num_pages)


def page_is_free_or_live(stock: Any) -> Broken | None:
    if stock.pool.free_pages_N is None:
        return None
    known = {*stock.pool.free_pages_N.tolist(), *stock.live_pages_N.tolist()}
    pages = list(range(1, stock.pool.num_pages))
    at = [n for n, page in enumerate(pages) if page not in known]
    return _in_call(stock, at, pages, low=1, bound=stock.pool.num_pages)


def matched_prefix_is_mapped(match: Any) -> Broken | None:
    mapped, full = match.mapped_N.tolist(), match.full_slots_N.tolist()
    at = [n for n, slot in enumerate(mapped) if slot <= 0]
    said = [match.tokens, len(mapped), len(at)]
    places = [{"column": n, "value": mapped[n], "said": [*said, full[n]]} for n in at]
    return Broken(len(at), len(mapped), places) if at else None


def free_of_live_only(release: Any) -> Broken | None:
    slots, alive = release.slots_N.tolist(), set(release.live_pages_N.tolist())
    at = [n for n, slot in enumerate(slots) if _page(slot, release) not in alive]
    return _in_call(release, at or (_again(slots) if release.pool.page_size == 1 else []), slots)


def _expected_slots(write: Any) -> list[int] | None:
    if write.full_slots_N is None or (arrays.is_swa(write.pool) and write.mapping is None):
        return None
    full = write.full_slots_N.tolist()
    return [arrays.mapped(write.mapping, slot) for slot in full] if arrays.is_swa(write.pool) else full


def kv_slots_in_layer_space(write: Any) -> Broken | None:
    if not write.tokens:
        return None
    right, wants = _expected_slots(write), arrays.slot_space(write.pool)
    is_other = write.slots_space is not None and str(write.slots_space) != wants
    place = {"layer_id": write.layer_id, "bound": write.pool.num_pages * write.pool.page_size}
    place["said"] = [write.layer_id, write.tokens]
    if right is None or write.slots_N is None:
        return Broken(write.tokens, write.tokens, [place]) if is_other else None
    slots = write.slots_N.tolist()
    at = [n for n, slot in enumerate(slots) if slot != right[n]]
    said = [*place["said"], len(at), write.tokens]
    places = [{**place, "column": n, "value": slots[n], "expected": right[n], "said": said} for n in at]
    return Broken(len(at), write.tokens, places or [place], not at) if at or is_other else None


def kv_slots_are_those_handed_out(write: Any) -> Broken | None:
    right = _expected_slots(write)
    if not arrays.is_swa(write.pool) or right is None or write.handed_out_N is None:
        return None
    handed, full = write.handed_out_N.tolist(), write.full_slots_N.tolist()
    at = [n for n in range(len(full)) if right[n] != handed[n]]
    said = {n: [full[n], *(slot for slot in (right[n], handed[n]) if slot > 0)] for n in at}
    name = [write.layer_id, write.tokens]
    places = [{"layer_id": write.layer_id, "column": n, "said": [*name, n, *said[n]]} for n in at]
    return Broken(len(at), write.tokens, places) if at else None


def mapping_follows_allocation(update: Any) -> Broken | None:
    found, right = update.mapped_N.tolist(), update.swa_slots_N.tolist()
    at = [n for n in range(len(found)) if found[n] != right[n]]
    full = update.full_slots_N.tolist()
    said = {n: [full[n], *(slot for slot in (found[n], right[n]) if slot)] for n in at}
    places = [{"column": n, "value": found[n], "expected": right[n], "said": said[n]} for n in at]
    return Broken(len(at), len(found), places) if at else None


def _entry(read: Any, at: arrays.Place) -> Place:
    right = arrays.expected(read)
    value = arrays.value(read, at)
    place = {"row": at[0], "column": at[1], "value": value, "bound": read.pool.num_pages, **_of_read(read)}
    return {**place, "expected": None if right is None else right[at]}


def _of_read(read: Any) -> Place:
    return {"step": read.step, "layer_id": read.layer_id, "window_left": read.window_left}


def _entries(read: Any, at: list[arrays.Place], checked: int, said: list[list[int]]) -> Broken | None:
    places = [{**_entry(read, one), "said": numbers} for one, numbers in zip(at, said, strict=True)]
    return Broken(len(at), checked, places) if at else None


def page_in_window_is_mapped(read: Any) -> Broken | None:
    right = arrays.expected(read)
    if right is None or not arrays.is_swa(read.pool):
        return None
    stands = [at for at in arrays.live(read) if read.full_page_table_BP[at[0]][at[1]] != 0]
    at = [at for at in stands if arrays.value(read, at) == 0 == right[at]]
    return _entries(read, at, len(stands), [[int(read.full_page_table_BP[row][column])] for row, column in at])


def mapping_is_what_was_handed_out(read: Any) -> Broken | None:
    right = arrays.expected(read)
    if right is None or not arrays.is_swa(read.pool) or read.handed_out_BP is None:
        return None
    handed = {at: int(read.handed_out_BP[at[0]][at[1]]) for at in right}
    alive = arrays.live(read)
    bad = [at for at in alive if right[at] > 0 and right[at] != handed[at]]
    places = []
    for row, column in bad:
        owner = 0 if read.owner_BP is None else int(read.owner_BP[row][column])
        pages = [int(read.full_page_table_BP[row][column]), right[row, column]]
        pages += [page for page in (owner, handed[row, column]) if page]
        said = [row, column, read.layer_id, *pages]
        places.append({"row": row, "column": column, **_of_read(read), "said": said})
    return Broken(len(bad), len(alive), places) if bad else None


def page_size_is_the_pools(read: Any) -> Broken | None:
    sizes = [read.backend_page_size, read.pool.page_size, read.allocator_page_size]
    known = [size for size in sizes if size is not None]
    rows = len(read.seq_lens_B)
    if arrays.unit(read.pool) != "page" or not rows or all(size == known[0] for size in known):
        return None
    return Broken(rows, rows, [{"row": 0, **_of_read(read), "said": [read.layer_id, *known]}])


def page_is_handed_out_whole(call: Any) -> Broken | None:
    if call.live_pages_N is None:
        return None
    slots, alive, size = call.slots_N.tolist(), set(call.live_pages_N.tolist()), call.pool.page_size
    begun = {slot // size for slot in slots if slot % size == 0}
    of_page = Counter(slot // size for slot in slots)
    at = [
        n
        for n, slot in enumerate(slots)
        if slot // size not in begun | alive or (call.call == "alloc" and of_page[slot // size] != size)
    ]
    return _in_call(call, at, slots)


def page_table_in_layer_space(read: Any) -> Broken | None:
    alive, wrong = arrays.live(read), arrays.wrong(read)
    is_other = read.table_space is not None and read.table_space != read.pool.space
    if wrong or not is_other or not alive:
        return _entries(read, wrong, len(alive), [[len(wrong)]] * len(wrong))
    return Broken(0, len(alive), [_entry(read, alive[0])], arrays.expected(read) is not None)


def page_table_stays_in_pool(read: Any) -> Broken | None:
    alive = arrays.live(read)
    at = [at for at in alive if arrays.is_outside(read, at)]
    return _entries(read, at, len(alive), [[arrays.value(read, one), read.pool.num_pages] for one in at])


def query_rows_are_packed(query: Any) -> Broken | None:
    if query.rows < 2 or query.row_stride == query.row_elements:
        return None
    said = [query.layer_id, query.rows, query.row_elements, query.row_stride, query.rows - 1, 1]
    return Broken(query.rows - 1, query.rows, [{"layer_id": query.layer_id, "row": 1, "said": said}])


def request_row_is_of_its_request(read: Any) -> Broken | None:
    owners = read.row_owners
    if owners is None or read.req_rows_B is None:
        return None
    places, rows, own = [], read.req_rows_B.tolist(), owners.rows_B.tolist()
    for n, row in enumerate(rows):
        then, now = int(owners.taken_B[n]), int(owners.now_taken_B[n])
        is_anothers = own[n] >= 0 and own[n] != row
        is_given_away = own[n] == row and then >= 0 and now >= 0 and (then != now or owners.now_rids[n] == "")
        if is_anothers or is_given_away:
            places.append({"row": n, **_of_read(read), "said": [n, row, *([own[n]] if is_anothers else [])]})
    return Broken(len(places), sum(row >= 0 for row in own), places) if places else None


def slot_has_one_owner(call: Any) -> Broken | None:
    slots, size = call.slots_N.tolist(), call.pool.page_size
    alive = set() if call.live_pages_N is None else set(call.live_pages_N.tolist())
    again = set(_again(slots))
    at = [n for n, slot in enumerate(slots) if n in again or (slot % size == 0 and slot // size in alive)]
    return _in_call(call, at, slots)


def slot_inside_allocator(call: Any) -> Broken | None:
    slots, size = call.slots_N.tolist(), call.pool.page_size
    end = call.pool.num_pages * size
    at = [n for n, slot in enumerate(slots) if slot < size or slot >= end]
    found = _in_call(call, at, slots, low=size, bound=end)
    for place in found.places if found else ():
        place["said"] = [*place["said"], size, end - 1]
    return found


def swa_state_follows_pool(swap: Any) -> Broken | None:
    holds_state = swap.swa_state is not None
    if swap.moment == "exit":
        broken = swap.before is not None and tuple(swap.before) != (swap.read_pool, swap.swa_state)
    else:
        broken = (
            swap.wanted_pool not in (None, swap.read_pool)
            or (swap.read_pool_is_swa and swap.swa_state != swap.read_pool)
            or (not swap.read_pool_is_swa and not swap.frozen_kv and holds_state)
            or swap.graph_swa_tables not in (None, holds_state)
        )
    return Broken(1, 1) if broken else None


def table_is_of_this_step(read: Any) -> Broken | None:
    if read.batch_lens_B is None:
        return None
    found, right = read.seq_lens_B.tolist(), read.batch_lens_B.tolist()
    rows = [row for row in range(len(found)) if found[row] != right[row]]
    places = [{"row": row, **_of_read(read), "said": [row, found[row], right[row]]} for row in rows]
    return Broken(len(rows), len(found), places) if rows else None


def table_is_wide_enough(read: Any) -> Broken | None:
    rows, columns = read.page_table_BP.shape
    if read.batch_rows is not None and read.batch_rows > rows:
        return Broken(
            read.batch_rows - rows, read.batch_rows, [{"row": rows, **_of_read(read), "said": [rows, read.batch_rows]}]
        )
    start, size = arrays.starts(read), read.pool.page_size
    # The column of a row's last key has to be there.
    lens = read.seq_lens_B.tolist()
    short = [row for row, keys in enumerate(lens) if (keys - 1) // size - start[row] >= columns]
    said = {row: [row, lens[row], (lens[row] - 1) // size - start[row] + 1, columns] for row in short}
    places = [{"row": row, **_of_read(read), "said": said[row]} for row in short]
    return Broken(len(short), rows, places) if short else None


def window_is_the_models(read: Any) -> Broken | None:
    windows, rows = read.windows, len(read.seq_lens_B)
    if windows is None or read.window_left < 0 or not rows:
        return None
    told = [read.layer_id, read.window_left]
    if read.window_left != windows.built:
        told += [windows.built]
    elif read.window_left > windows.kept + 1:
        told += [windows.kept]
    elif windows.widest < windows.kept:
        told += [windows.widest, windows.kept]
    else:
        return None
    return Broken(rows, rows, [{"row": 0, **_of_read(read), "said": told}])


_READ = (page_in_window_is_mapped, page_table_in_layer_space, page_table_stays_in_pool)
_READ += (table_is_of_this_step, table_is_wide_enough, mapping_is_what_was_handed_out)
_READ += (request_row_is_of_its_request, window_is_the_models, page_size_is_the_pools)
# Kind of view -> the claims made of it.
_OF = {
    "kv_writes": (draft_writes_no_kv,),
    "free_lists": (free_list_is_free, page_is_free_or_live),
    "others": (matched_prefix_is_mapped,),
    "releases": (free_of_live_only,),
    "kv_slots": (kv_slots_in_layer_space, kv_slots_are_those_handed_out),
    "mapping_updates": (mapping_follows_allocation,),
    "reads": _READ,
    "allocations": (page_is_handed_out_whole, slot_has_one_owner, slot_inside_allocator),
    "query_rows": (query_rows_are_packed,),
    "swaps": (swa_state_follows_pool,),
}
CLAIMS: dict[str, tuple[str, Claim]] = {
    claim.__name__: (kind, arrays.kept(claim)) for kind, those in _OF.items() for claim in those
}


def can_be_judged(name: str, view: Any) -> bool:
    """Whether the view holds what the claim is about."""
    if name == "matched_prefix_is_mapped":
        return bool(len(view.full_slots_N))
    if name in ("free_list_is_free", "page_is_free_or_live"):
        return view.pool.free_pages_N is not None
    if name == "kv_slots_in_layer_space":
        return view.slots_space is not None or (view.slots_N is not None and _expected_slots(view) is not None)
    if name == "page_in_window_is_mapped":
        return arrays.is_swa(view.pool) and arrays.expected(view) is not None
    if name == "page_table_in_layer_space":
        return view.table_space is not None or arrays.expected(view) is not None
    if name == "mapping_is_what_was_handed_out":
        return arrays.is_swa(view.pool) and arrays.expected(view) is not None and view.handed_out_BP is not None
    if name == "kv_slots_are_those_handed_out":
        return arrays.is_swa(view.pool) and _expected_slots(view) is not None and view.handed_out_N is not None
    if name == "request_row_is_of_its_request":
        owners = view.row_owners
        return owners is not None and view.req_rows_B is not None and max(owners.rows_B.tolist(), default=-1) >= 0
    if name == "window_is_the_models":
        return view.windows is not None and view.window_left >= 0
    if name == "page_size_is_the_pools":
        sizes = (view.backend_page_size, view.allocator_page_size)
        return arrays.unit(view.pool) == "page" and sizes != (None, None)
    if name in ("page_is_handed_out_whole", "slot_has_one_owner"):
        return view.live_pages_N is not None
    return name != "table_is_of_this_step" or view.batch_lens_B is not None


def broken_in(incident: Incident, name: str) -> list[tuple[Any, Broken]]:
    """The views that break one claim."""
    kind, claim = CLAIMS[name]
    return [(view, found) for view in getattr(incident, kind) if (found := claim(view)) is not None]


def judged_in(incident: Incident, name: str) -> int:
    """How many views let it be judged, or break it all the same."""
    kind, claim = CLAIMS[name]
    return sum(can_be_judged(name, view) or claim(view) is not None for view in getattr(incident, kind))


def entries(incident: Incident) -> int:
    """Entries, slots and pool edges that the file holds to judge."""
    many = sum(len(arrays.live(read)) for read in incident.reads)
    many += sum(len(call.slots_N) for call in (*incident.allocations, *incident.releases))
    many += sum(len(stock.pool.free_pages_N) for stock in incident.free_lists if stock.pool.free_pages_N is not None)
    many += sum(len(update.mapped_N) for update in incident.mapping_updates)
    many += sum(len(match.full_slots_N) for match in incident.others)
    return (
        many
        + sum(len(those) for those in (incident.kv_writes, incident.kv_slots, incident.query_rows))
        + len(incident.swaps)
    )
