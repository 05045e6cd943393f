"""What is written of a failure: a dump of the views judged in its last example, and the program as a test. Of one that
did not come again: those of the example in which it was seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from g4diag.atomic_write import atomic_write
from g4diag.dump.writer import write_dump
from g4diag.fuzz.program import as_test
from g4diag.fuzz.session import Session
from g4diag.hooks.versions import installed
from g4diag.model import Grade, Incident
from g4diag.model.campaign import Failure
from g4diag.settings import DEFAULT_DUMP_DIR


def written(failure: Failure, session: Session, seed: int, folder: Path | None) -> Failure:
    """The failure with its files on disk, under `folder` or g4diag-dumps. OSError if the disk refuses."""
    machine, faults = session.machine.name, session.manifest["faults"]
    stem = "_".join(["fuzz", machine, *faults, f"seed{seed}"]).replace("-", "_")
    folder = folder or DEFAULT_DUMP_DIR
    dump = write_dump(incident(failure, session, seed), folder / f"{stem}.pt")
    test = as_test(machine, faults, failure)
    return replace(failure, dump=dump, test=atomic_write(folder / f"test_{stem}.py", test))


def incident(failure: Failure, session: Session, seed: int) -> Incident:
    """The last views of the shrunk program, with what the machine shows of its state; of a failure that did not come
    again, those of the run in which it came. A claim of the model, which no trap can judge again, is a note."""
    first = session.first
    if failure.repeats or first is None:
        how, violations, seen = "", tuple(session.violations), session.seen()
    else:
        how, violations, seen = " once, and not when the same steps were run again", first.violations, first.seen
    return Incident(
        origin="g4diag",
        violations=violations,
        manifest=session.manifest,
        versions={name: version for name, version in installed().items() if version},
        context={"machine": session.machine.name, "seed": seed, "program": list(failure.program)},
        notes=((Grade.MEASURED, f"the fuzzer found {failure.claim} broken{how}: {failure.text}"),),
        **seen,
    )
