"""A sliding layer hands its kernel the window that its model was built with, and the K/V cache keeps that window.

One key less, and the oldest key is not read: answers drift and nothing faults. More than the cache keeps, and pages
that were evicted are read. What a model's layers say and what its cache keeps are two numbers, so both are written
down when the backend is built. They are the same, but for one release: Gemma-4's layers in 0.5.13 hand one key more
than the cache keeps (512 and 511), as released, so a key more than kept is no defect. Layers of one model may differ;
that a layer is narrower than the cache keeps is told where every layer is.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.model import AttentionRead, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.reads import violation_in

_MORE = 1  # keys that 0.5.13's Gemma-4 hands its kernel beyond those that its cache keeps


def judge(read: AttentionRead) -> Iterator[Violation]:
    """At most one violation a read."""
    if read.windows is None or read.window_left < 0 or not len(read.seq_lens_B):
        return
    if problem := _problem(read):
        rows = len(read.seq_lens_B)
        yield violation_in(read, TRAP.name, Severity.ERROR, problem, row=0, count=rows, checked=rows)


def _problem(read: AttentionRead) -> str:
    if (windows := read.windows) is None:
        return ""
    handed = f"{read.worker} layer {read.layer_id} hands its kernel a window of {read.window_left} keys"
    if read.window_left != windows.built:
        return f"{handed}, and was built with one of {windows.built}"
    if read.window_left > windows.kept + _MORE:
        return f"{handed}, and the K/V cache of its model keeps {windows.kept}"
    if windows.widest < windows.kept:
        return f"{handed}, no layer of its model a wider one than {windows.widest}, and its cache keeps {windows.kept}"
    return ""


def needs(read: AttentionRead) -> str:
    """A window, and the model's own."""
    if read.window_left < 0:
        return "a layer with a window"
    return "the model's own window" if read.windows is None else ""


TRAP = Trap(
    name="window_is_the_models",
    claim="The window that a sliding layer hands its kernel is what it was built with and what its cache keeps.",
    without_it="The oldest keys of the window are not read, or keys that were evicted are: answers drift, no fault.",
    cost="A walk over the model's layers when a backend is built, and a compare of three numbers a read, on the host.",
    runs=("eager", "offline"),
    judges=AttentionRead,
    judge=judge,
    group="page-table",
    needs=needs,
    counts="rows of this read",
)
