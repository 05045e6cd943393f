"""How a process starts that runs one scenario and ends. Nothing here changes what a scenario reads.

Nearly all of its time is the import of sglang, some 7000 modules. Python's collector of cycles goes through them dozens
of times while they come, a fifth of the start, and finds nothing: it rests until they are there.
"""

from __future__ import annotations

import gc

from g4diag.scenario import Scenario


def begin(scenario: Scenario) -> None:
    """Before the first import of sglang. Not for a process that goes on to something else."""
    gc.disable()
    if scenario.allocator_alone:
        from g4diag.stack.drive import allocator_alone

        allocator_alone.prepare()


def imported() -> None:
    """Nearly all is there: collect again, and leave out for good what there is. Nothing in a process that did not
    `begin`."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
