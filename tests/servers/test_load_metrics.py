"""What a served load says, and that the child writes down what it is read from."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from g4diag.servers import child as server_child
from g4diag.servers import load_metrics as served
from g4diag.stack.pairs.accepting_pair import task
from g4diag.stack.pairs.tiny_pair import WINDOW

ROWS: list[dict[str, Any]] = [
    {"event": "ready", "at": 40.0},
    {"event": "sending", "at": 50.0},
    {"event": "finished", "tokens": [1] * 11, "meta": {"spec_verify_ct": 5}, "first": 51.0, "last": 52.0},
    {"event": "finished", "tokens": [1] * 11, "meta": {"spec_verify_ct": 3}, "first": 51.0, "last": 54.0},
    {"event": "finished", "tokens": [1] * 11, "meta": {"spec_verify_ct": 2}, "first": 51.0, "last": 53.0},
]


def test_accept_length_leaves_the_prefills_token_out() -> None:
    assert served.accept_length(ROWS) == 30 / 10
    nothing_accepted = [{"event": "finished", "tokens": [1] * 128, "meta": {"spec_verify_ct": 127}}]
    assert served.accept_length(nothing_accepted) == 1.0


def test_rates_are_from_the_sending_on() -> None:
    assert served.output_rate(ROWS) == 33 / 4
    assert served.tpot_ms(ROWS) == 200.0


def test_where_nothing_came_back_nothing_is_said() -> None:
    assert served.accept_length(ROWS[:2]) is served.output_rate(ROWS[:2]) is served.tpot_ms(ROWS[:2]) is None
    assert served.accept_length([{"event": "finished", "tokens": [1, 2], "meta": {}}]) is None
    assert served.on_task({}, 0, 2, 400) is None


def test_tokens_on_task_are_those_that_continue_their_own_prompt() -> None:
    prompts = task.prompts(2, 400, 5, WINDOW)
    right = {i: task.continued(prompt, 4) for i, prompt in enumerate(prompts)}
    assert served.on_task(right, 5, 2, 400) == 1.0
    assert served.on_task({0: right[0], 1: [0, *right[1][1:]]}, 5, 2, 400) == 7 / 8
    assert served.on_task({1: right[0]}, 5, 2, 400) == 0.0


class Engine:
    """Answers a request token by token, as sglang's does with `stream=True`: each output holds the earlier ones."""

    sent: list[tuple[list[int], int]]

    def __init__(self, **arguments: Any) -> None:
        self.loop = asyncio.new_event_loop()
        Engine.sent = []

    async def async_generate(self, input_ids: list[int], sampling_params: dict[str, Any], stream: bool) -> Any:
        assert stream
        Engine.sent.append((input_ids, sampling_params["max_new_tokens"]))
        return self._outputs(sampling_params["max_new_tokens"])

    async def _outputs(self, count: int) -> AsyncIterator[dict[str, Any]]:
        for i in range(count):
            await asyncio.sleep(0)
            yield {"output_ids": list(range(i + 1)), "meta_info": {"spec_verify_ct": i, "finish_reason": {}}}

    def get_server_info(self) -> dict[str, Any]:
        return {"internal_states": [{}]}

    def shutdown(self) -> None:
        self.loop.close()


def test_the_child_warms_up_with_other_prompts_and_times_each_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("sglang.srt.entrypoints.engine")
    module.Engine = Engine  # type: ignore[attr-defined]
    for name in ("sglang", "sglang.srt", "sglang.srt.entrypoints"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    job = {"engine": {}, "events": str(tmp_path / "events"), "started": 0.0, "seed": 5, "requests": 2, "vocab": 2048}
    job |= {"prompt_tokens": 400, "new_tokens": 4, "pair": "accepting", "warm": 1, "turns": None}
    (tmp_path / "job").write_text(json.dumps(job))
    assert server_child.main(str(tmp_path / "job")) == 0
    rows = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [row["event"] for row in rows][2:] == [
        "ready",
        "warm",
        "sending",
        "finished",
        "finished",
        "served",
        "info",
        "stopped",
    ]
    assert all(row["tokens"] == [0, 1, 2, 3] and row["first"] <= row["last"] for row in rows if "tokens" in row)
    assert [ids for ids, _ in Engine.sent[1:]] == task.prompts(2, 400, 5, WINDOW) and Engine.sent[0][1] == 16
    assert Engine.sent[0][0] not in task.prompts(2, 400, 5, WINDOW)
    assert served.accept_length(rows) == 1.0
