"""Where the tests let sglang's index kernels go by their equals in torch, as `g4diag repro` does: a scenario spends two
fifths of its processor time in Triton's interpreter. tests/stack/drive holds both ways to be equal, tests/cli runs one
scenario both ways, and the rediscovery of bugs runs the kernels themselves."""

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
    from g4diag.stack.drive.index_kernels import in_torch

    with in_torch():
        yield
