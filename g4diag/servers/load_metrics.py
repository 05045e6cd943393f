"""What the answers of a served load say, from the rows that `server_child` wrote: accept length, rates, correctness."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from g4diag.stack.pairs import tiny_pair
from g4diag.stack.pairs.accepting_pair import task


def accept_length(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Tokens a verify step, over all requests that came back; None without speculation. sglang's own
    `spec_accept_length` divides one token more, the prefill's: 128 / 127 = 1.008 where nothing was accepted."""
    done = [(len(row["tokens"]) - 1, row["meta"].get("spec_verify_ct", 0)) for row in _finished(rows)]
    steps = sum(count for _, count in done)
    return sum(tokens for tokens, count in done if count) / steps if steps else None


def output_rate(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Output tokens a second, from when the load was sent to its last token."""
    sent = next((row["at"] for row in rows if row["event"] == "sending"), None)
    done = _finished(rows)
    if sent is None or not done:
        return None
    return float(sum(len(row["tokens"]) for row in done) / (max(row["last"] for row in done) - sent))


def tpot_ms(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Median over requests of the milliseconds a token after the first."""
    each = [
        1000 * (row["last"] - row["first"]) / (len(row["tokens"]) - 1)
        for row in _finished(rows)
        if "first" in row and len(row["tokens"]) > 1
    ]
    return statistics.median(each) if each else None


def on_task(answers: Mapping[int, Sequence[int]], seed: int, requests: int, prompt_tokens: int) -> float | None:
    """Share of the accepting pair's output tokens that rightly continue their prompts; None without answers."""
    prompts = task.prompts(requests, prompt_tokens, seed, tiny_pair.WINDOW)
    right = [
        found == wanted
        for index, ids in answers.items()
        for found, wanted in zip(ids, task.continued(prompts[index], len(ids)), strict=True)
    ]
    return sum(right) / len(right) if right else None


def _finished(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["event"] == "finished"]
