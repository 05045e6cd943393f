"""Where the tests let sglang's index kernels go by their equals in torch: a scenario spends two fifths of its processor
time in Triton's interpreter. tests/stack/drive holds both ways to be equal; tests/cli/test_repro.py and the rediscovery
of bugs run the kernels themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

PLACES = ("repro/", "scenario/", "stack/live/", "stack/probes/")


def here(nodeid: str) -> bool:
    """Whether this test does."""
    return nodeid.partition("::")[0].removeprefix("tests/").startswith(PLACES)


@contextmanager
def fast() -> Iterator[None]:
    """For the body they do."""
    from g4diag.stack.drive.allocation_kernels import switchable, use_interpreter
    from g4diag.stack.drive.table_kernels import switchable_tables

    with switchable(), switchable_tables():
        use_interpreter(False)
        yield
