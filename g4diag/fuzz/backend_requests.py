"""The requests of the backend machine: their rows, their slots, and how they come, grow and go."""

from __future__ import annotations

from g4diag.fuzz.backend_runners import BackendSides
from g4diag.fuzz.backend_steps import Step
from g4diag.stack.drive.forwards import extends_all_drafts
from g4diag.stack.drive.prepared import leave, newcomer
from g4diag.stack.drive.request_state import give_row_back, take_row, write_row
from g4diag.stack.drive.swa_pool import free_row, int64


class BackendRequests(BackendSides):
    """Base of the machine. drafted: rid -> tokens whose K/V the EAGLE draft has. longest: tokens that a request may
    have."""

    drafted: dict[int, int]
    longest: int

    def live(self) -> list[int]:
        """Ids of the requests that can be stepped."""
        return sorted(self.held)

    def _take_row(self) -> int | None:
        """A new request that has a row and nothing else; its rid. None if all rows are taken."""
        rid = self.model.admit()
        req = self.call(newcomer, f"r{rid}")
        if self.call(take_row, self.rig.rows, req) is None:
            del self.model.requests[rid]
            return None
        self.held[rid] = req
        return rid

    def _admit(self, lengths: dict[int, int]) -> None:
        """The first chunks of requests that have rows; those without room leave."""
        self._extend({rid: min(length, self.longest) for rid, length in lengths.items()})
        for rid in lengths:
            if not self._committed(rid):
                self._give_back(rid)

    def _others(self, length: int) -> None:
        none, lens = int64([0]), int64([length])
        before = length - self.page_size
        handed = self.call(
            self.allocator.alloc_extend_swa_tail, none, none, lens, lens, int64([-1]), length, self.page_size
        )
        if handed is not None:
            self.append({self.model.admit(): length}, handed, before)

    def _give_back(self, rid: int) -> None:
        evicted = self.model.requests[rid].evicted
        if slots := self.model.free(rid):
            for free, arguments, named in free_row("free", self.allocator, int64(slots), 0, evicted):
                self.call(free, *arguments, **named)
        self.call(give_row_back, self.rig.rows, self.held[rid])
        self.call(leave, self.held.pop(rid))
        self.drafted.pop(rid, None)

    def _committed(self, rid: int) -> int:
        return self.model.requests[rid].committed

    def _room(self, rid: int) -> int:
        return max(0, self.longest - self._committed(rid))

    def _commit(self, counts: dict[int, int]) -> None:
        for rid, count in counts.items():
            self.model.requests[rid].committed += count

    def _extend(self, chunks: dict[int, int]) -> None:
        """Prefill so many more tokens of each that there is room for."""
        chunks = {rid: count for rid, count in chunks.items() if self._reserve([rid], count)}
        if not chunks:
            return
        starts = [self._committed(rid) for rid in chunks]
        ends = [start + count for start, count in zip(starts, chunks.values(), strict=True)]
        self.target_step(step_of("EXTEND", list(chunks), starts, list(chunks.values()), ends, ends), None)
        self._commit(chunks)

    def _reserve(self, picked: list[int], count: int) -> bool:
        """Have slots for `count` tokens past the committed ones of each; whether there was room."""
        held = {rid: self.model.requests[rid] for rid in picked}
        short = {rid: n for rid, request in held.items() if (n := request.committed + count - len(request.slots)) > 0}
        if not short:
            return True
        committed = {rid: request.committed for rid, request in held.items()}
        before = [len(held[rid].slots) for rid in short]
        prefix, lens = int64(before), int64([n + more for n, more in zip(before, short.values(), strict=True)])
        if self.page_size == 1:
            handed = self.call(self.allocator.alloc, sum(short.values()))
        else:
            last_loc = int64([held[rid].last_loc for rid in short])
            handed = self.call(self.allocator.alloc_extend, prefix, prefix, lens, lens, last_loc, sum(short.values()))
        if handed is None:
            return False
        self.append(short, handed)
        for rid, request in held.items():
            request.committed = committed[rid]
            self.call(write_row, self.rig.rows, self.held[rid], request.slots)
        return True

    def _catch_up(self, behind: list[int], padding: int | None) -> None:
        if not behind:
            return
        starts = [self.drafted.get(rid, 0) for rid in behind]
        ends = [self._committed(rid) for rid in behind]
        queries, drafts = [end - start for start, end in zip(starts, ends, strict=True)], self.rig.sizes.drafts
        fits = max(queries) <= drafts
        phase = "DRAFT_EXTEND" if all(starts) and (fits or not extends_all_drafts()) else "EXTEND"
        if phase == "DRAFT_EXTEND" and extends_all_drafts():
            keys = [start + drafts for start in starts]
            self.twin_step(step_of(phase, behind, starts, drafts, keys, keys), padding)
        else:
            self.twin_step(step_of(phase, behind, starts, queries, ends, ends), padding if fits else None)
        self.drafted.update(zip(behind, ends, strict=True))


def step_of(
    phase: str,
    rids: list[int],
    starts: list[int],
    queries: int | list[int],
    lens: list[int],
    keys: list[int],
    ahead: int = 0,
) -> Step:
    """A Step of these requests. queries: one number for all, or one a request. The others: as Step has them."""
    each = [queries] * len(rids) if isinstance(queries, int) else queries
    return Step(phase, tuple(rids), tuple(starts), tuple(each), tuple(lens), tuple(keys), ahead)
