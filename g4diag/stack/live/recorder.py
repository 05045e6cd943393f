"""The flight recorder in a running server: one record a scheduler step, and marks, in a ring file of this process.

Host side only: what is read are Python numbers and lengths of tensors, so nothing waits for the device. How far the
two index spaces have diverged lives on the device and is left out; `swa_freed` beyond `freed` tells how many slots
were given back on the SWA side alone, which is what makes them diverge. The file is made at the first record, so a
process that schedules nothing has none. Never raises into the server; gives up after a few failures.

    from g4diag.stack.live import recorder
    recorder.mark("verdict", "layer=4 row=0 column=60 value=188 bound=154", step=12)   # nothing when it is off
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from g4diag.atomic_write import token
from g4diag.dump.ring import SUFFIX, TAIL, RingWriter, is_written
from g4diag.guard import guard
from g4diag.hooks.install import Hook, install
from g4diag.hooks.manifest import armed_manifest
from g4diag.hooks.versions import installed
from g4diag.model import RingRecord
from g4diag.settings import run_dir
from g4diag.stack.releases import current as current_release

_FREES, _SWA_FREES = ("swa.free", "swa.free_segment"), ("swa.free_swa", "swa.free_swa_segment")
_KEPT_FILES, _MAX_FAILURES = 64, 3
_RANKS = ("tp_rank", "pp_rank", "dp_rank", "attn_dp_rank", "moe_ep_rank")

_current: Recorder | None = None


class Recorder:
    """One process's recorder. folder: where the ring file goes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._failures = folder, 0
        self._ring: RingWriter | None = None
        self.ranks = ""
        self.allocs = self.allocated = self.refused = self.frees = self.freed = self.swa_freed = 0

    @property
    def path(self) -> Path | None:
        """The ring file, None before the first record."""
        return self._ring.path if self._ring else None

    def hooks(self) -> list[Hook]:
        """The scheduler's loop and steps, and what the SWA allocator hands out and takes back."""
        release = current_release()
        allocs = [
            release.hook(f"swa.{name}", "after", self._allocated) for name in ("alloc", "alloc_extend", "alloc_decode")
        ]
        return [
            release.hook("scheduler.run_event_loop", "around", self._around_loop),
            release.hook("scheduler.run_batch", "before", self._before_batch),
            *allocs,
            *(release.hook(name, "before", self._freed) for name in _FREES if release.has(name)),
            *(release.hook(name, "before", self._swa_freed) for name in _SWA_FREES if release.has(name)),
        ]

    def mark(self, kind: str, text: str, step: int = -1) -> None:
        """Something worth a line among the steps. kind: at most 16 bytes; text: 200. Never prompt text."""
        self._safely("marking", lambda ring: ring.mark(kind, text, step))

    def tail(self, count: int = TAIL) -> tuple[RingRecord, ...]:
        """The last records, oldest first; none before the first one."""
        return self._ring.tail(count) if self._ring else ()

    def close(self) -> None:
        """Let go of the file, which stays."""
        if self._ring:
            self._ring.close()
        self._ring, self._failures = None, _MAX_FAILURES

    def forget(self) -> None:
        """In a forked child: the file is the parent's; a record of ours goes into one of our own."""
        self._ring, self.ranks = None, ""

    def _safely(self, doing: str, write: Callable[[RingWriter], None]) -> None:
        if self._failures >= _MAX_FAILURES:
            return
        with guard(f"recorder: {doing}"):
            self._failures += 1
            write(self._ring or self._open())
            self._failures = 0

    def _open(self) -> RingWriter:
        about = {
            "process": multiprocessing.current_process().name,
            "run": folder.name if (folder := run_dir()) else "",
            "manifest": armed_manifest(),
            "versions": {name: version for name, version in installed().items() if version},
        }
        self._ring = RingWriter(self._folder / f"ring-{time.time_ns()}-pid{token()}{SUFFIX}", about)
        _prune(self._folder)
        return self._ring

    def _around_loop(self, original: Callable[..., Any], scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        ranks = getattr(scheduler, "ps", None)
        said = " ".join(f"{name}={value}" for name in _RANKS if (value := getattr(ranks, name, None)) is not None)
        self.ranks = said
        self._safely("marking", lambda ring: ring.start(said))
        try:
            result = original(scheduler, *args, **kwargs)
        except BaseException as error:
            self.mark("exception", _told(error), getattr(scheduler, "forward_ct", -1))
            raise
        self.mark("end", "the scheduler's loop returned")
        return result

    def _before_batch(self, scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> None:
        self._safely("a step", lambda ring: self._step(ring, scheduler, batch))

    def _step(self, ring: RingWriter, scheduler: Any, batch: Any) -> None:
        reqs, allocator = batch.reqs, scheduler.token_to_kv_pool_allocator
        if hasattr(allocator, "swa_available_size"):
            pools = (
                allocator.size_full,
                allocator.full_available_size(),
                allocator.size_swa,
                allocator.swa_available_size(),
            )
        else:
            pools = allocator.size, allocator.available_size(), -1, -1
        numbers = (
            # run_batch counts this one after us.
            *(scheduler.forward_ct + 1, len(reqs), _number(batch.extend_num_tokens), _number(batch.seq_lens_sum)),
            *(len(scheduler.waiting_queue), *pools),
            *(self.allocs, self.allocated, self.refused, self.frees, self.freed, self.swa_freed),
        )
        ring.step(batch.forward_mode.name, numbers, [req.rid for req in reqs[:12]])

    def _allocated(self, result: Any, *args: Any, **kwargs: Any) -> None:
        self.allocs += 1
        if result is None:
            self.refused += 1
        else:
            self.allocated += result.numel()

    def _freed(self, allocator: Any, free_index: Any, *args: Any, **kwargs: Any) -> None:
        # In a free group the ids are only put aside, and may come again, all at once, when it ends.
        read = current_release().read
        if not (read.regroups and read.is_deferred(allocator)):
            self.frees += 1
            self.freed += free_index.numel()

    def _swa_freed(self, allocator: Any, free_index: Any, *args: Any, **kwargs: Any) -> None:
        self.swa_freed += free_index.numel()


class armed:
    """`with armed(folder) as recorder:` on in this process. PatchRefused if a hook does not fit."""

    # A class, not a generator: one held until the process ends would be finalized, and so undone, at shutdown.
    def __init__(self, folder: Path) -> None:
        self._recorder = Recorder(folder)

    def __enter__(self) -> Recorder:
        global _current
        self._installation = install("g4diag recorder", self._recorder.hooks())
        self._before, _current = _current, self._recorder
        return self._recorder

    def __exit__(self, *_: object) -> None:
        global _current
        _current = self._before
        self._installation.undo()
        self._recorder.close()


def current() -> Recorder | None:
    """This process's recorder, None when it is off."""
    return _current


def mark(kind: str, text: str, step: int = -1) -> None:
    """`Recorder.mark` of this process; nothing when it is off. Never raises in production."""
    if _current is not None:
        _current.mark(kind, text, step)


def tail(count: int = TAIL) -> tuple[RingRecord, ...]:
    """The last records of this process, for a dump; none when the recorder is off."""
    if _current is not None:
        with guard("recorder: reading the tail"):
            return _current.tail(count)
    return ()


def ranks() -> str:
    """Those of this process, as its scheduler has them, "tp_rank=3 pp_rank=0"; "" where nothing told."""
    return _current.ranks if _current is not None else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _told(error: BaseException) -> str:
    """Type and place. The message only where it is CUDA's: others may quote a request."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else ""
    message = str(error).partition("\n")[0]
    said = f": {message}" if "CUDA" in message or isinstance(error, IndexError) else ""
    return f"{type(error).__name__}{said}{place}"


def _prune(folder: Path) -> None:
    """Rings of earlier processes beyond the newest ones go, or a crash loop would fill the disk. One that is still
    written stays, however many there are: a large server has as many schedulers."""
    with guard("recorder: pruning old rings"):
        for old in sorted(folder.glob(f"ring-*{SUFFIX}"))[:-_KEPT_FILES]:
            with contextlib.suppress(FileNotFoundError):
                if not is_written(old):
                    old.unlink()


def _forget_in_child() -> None:
    if _current is not None:
        _current.forget()


os.register_at_fork(after_in_child=_forget_in_child)
