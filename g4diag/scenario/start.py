"""How a process starts that runs one scenario and ends. Nothing here changes what a scenario reads.

Nearly all of its time is the import of sglang, some 7000 modules. Python's collector of cycles goes through them dozens
of times while they come, a fifth of the start, and finds nothing: it rests until they are there. Torch's compiler,
which nothing here uses, stays out, and so does what runs models where a scenario runs none.
"""

from __future__ import annotations

import gc

from g4diag.scenario import Scenario


def begin(scenario: Scenario) -> None:
    """Before the first import of sglang. Not for a process that goes on to something else."""
    from g4diag.stack.drive import uncompiled

    gc.disable()
    uncompiled.install()
    if scenario.without_model:
        from g4diag.stack.drive import without_model

        without_model.prepare()


def imported() -> None:
    """Nearly all is there: collect again, and leave out for good what there is. Nothing in a process that did not
    `begin`."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
