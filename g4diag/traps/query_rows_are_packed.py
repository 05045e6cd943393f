"""A kernel that is handed the address of its queries and no strides is handed packed rows.

FlashInfer's XQA, which runs trtllm_mha decode on Hopper and SM120, finds row r at r times heads x head dim. A query
that is a slice of the qkv buffer has its rows further apart: row 0 is right, and every later one is read from a place
that belongs to others' queries, keys or values (#31641). Nothing faults. A draft of such rows is refused by verify, so
the accept length falls with the batch; without a verify the answers are wrong.
trtllm-gen (SM100) is handed the strides of rows and heads, so the probe does not look there.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.model import QueryRows, Severity, Violation
from g4diag.traps.contract import Trap


def judge(query: QueryRows) -> Iterator[Violation]:
    """One violation a call: a lone row is where the address says, whatever its stride."""
    wrong = query.rows - 1
    if wrong < 1 or query.row_stride == query.row_elements:
        return
    yield Violation(
        trap=TRAP.name,
        severity=Severity.ERROR,
        summary=(
            f"layer {query.layer_id} of the {query.worker} gives its kernel {query.rows} query rows"
            f" of {query.row_elements} elements that lie {query.row_stride} apart, and reads them packed:"
            f" {wrong} of them, from row 1 on, from the wrong place"
        ),
        worker=query.worker,
        phase=query.phase,
        path=query.path,
        backend=query.backend,
        layer_id=query.layer_id,
        row=1,
        count=wrong,
        checked=query.rows,
    )


TRAP = Trap(
    name="query_rows_are_packed",
    claim="A kernel that reads packed query rows is handed packed query rows.",
    without_it="All requests of a batch but the first are computed with wrong queries: accept length falls, silently.",
    cost="Two Python calls a layer of a decode, host attributes only; no tensor is touched, and none inside a replay.",
    runs=("eager", "captured", "offline"),
    judges=QueryRows,
    judge=judge,
    group="query",
)
