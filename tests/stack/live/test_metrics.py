"""What traps did, on sglang's own /metrics: its own function mounts it, its own files carry the values."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

import prometheus_client
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from g4diag import guard
from g4diag.errors import PatchRefused
from g4diag.stack.live import metrics, selection
from g4diag.stack.live.arming import Armed, Refused
from g4diag.stack.live.metrics import COUNTERS, EVERY, FEWEST_VERIFIED, GAUGES, OTHER, Publisher
from g4diag.stack.live.sink import Live
from g4diag.stack.live.tally import ASKED_EVERY, Tally
from tests import samples

READS = "page_table_stays_in_pool"
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where sglang would have prometheus_client keep values, chosen as its first import would."""
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())
    return tmp_path


def served() -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Sample name -> labels -> value, as sglang's route answers."""
    from fastapi import FastAPI
    from sglang.srt.utils.common import add_prometheus_middleware

    app, sent = FastAPI(), []
    add_prometheus_middleware(app)
    scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "headers": [], "root_path": ""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200
    text = b"".join(message.get("body", b"") for message in sent).decode()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labelled(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((labels | {"tp_rank": "3", "pp_rank": "0", "dp_rank": ""}).items()))


def scheduler(**reporter: Any) -> Any:
    """What of sglang's is asked: its reporter, with the labels of its own metrics."""
    labels = {"model_name": "gemma", "engine_type": "unified", "tp_rank": 3, "pp_rank": 0, "moe_ep_rank": 0}
    made = {"enable_metrics": True, "metrics_collector": SimpleNamespace(labels=labels)}
    return SimpleNamespace(metrics_reporter=SimpleNamespace(**made | reporter))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def on(tmp_path: Path) -> Armed:
    made = Armed()
    made.traps, made.live = (READS,), Live([selection.traps()[READS]], tmp_path / "dumps")
    made.refused = (Refused("slot_inside_allocator", "swa.built", "a place", "none"),)
    return made


def sink(on: Armed) -> Live:
    assert on.live is not None
    return on.live


def test_a_violation_is_counted_and_a_healthy_server_has_none(on: Armed) -> None:
    publisher, server = Publisher(on, 2.8, clock := Clock()), scheduler()
    for _ in range(3):
        sink(on).sink(samples.healthy_read())
    publisher._stepped(None, server, None, None)
    found, place = served(), {"worker": "draft", "layer_kind": "swa"}
    assert found["g4diag_checks_total"] == {labelled(trap=READS, **place): 3.0}
    assert found["g4diag_steps_total"] == {labelled(): 1.0}
    assert found["g4diag_trap_armed"] == {labelled(trap=READS): 1.0, labelled(trap="slot_inside_allocator"): 0.0}
    assert found["g4diag_accept_length_healthy"] == {labelled(): 2.8}
    assert not {"g4diag_violations_total", "g4diag_dumps_total", "g4diag_accept_length"} & set(found)

    clock.now += EVERY
    for _ in range(2):
        sink(on).sink(samples.faulty_read())
    publisher._idle(server)
    found = served()
    assert found["g4diag_violations_total"] == {labelled(trap=READS, severity="error", **place): 2.0}
    assert found["g4diag_dumps_total"] == {labelled(trap=READS): 1.0}
    assert found["g4diag_checks_total"] == {labelled(trap=READS, **place): 5.0}, "each counted once"


def test_what_a_view_lacks_is_no_check(on: Armed) -> None:
    trap = selection.traps()["page_table_in_layer_space"]
    live = Live([trap], Path("nowhere"))
    live.sink(lacking := samples.healthy_read(full_page_table_BP=None, table_space=None))
    assert trap.needs(lacking) and not live.tally.checks


@pytest.mark.parametrize(("every", "asked"), [(ASKED_EVERY, 2), (1, 65)])
def test_what_a_view_lacks_is_asked_now_and_then(every: int, asked: int) -> None:
    trap, views = selection.traps()[READS], []
    tally = Tally(every)
    counted = replace(trap, needs=lambda view: views.append(view) or "")
    for _ in range(65):
        tally.judged(counted, samples.healthy_read())
    assert len(views) == asked and tally.checks == {(READS, "draft", "swa"): 65}


def test_it_publishes_now_and_then(on: Armed, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher, published = Publisher(on, None, clock := Clock()), []
    monkeypatch.setattr(publisher, "publish", published.append)
    for _ in range(50):
        publisher._stepped(None, "it", None, None)
    assert len(published) == 1
    clock.now += EVERY
    publisher._idle("it")
    assert published == ["it", "it"]


def test_accept_length_stands_beside_the_best_so_far(on: Armed) -> None:
    publisher, server = Publisher(on, None), scheduler()
    for tokens, verified in ((0, 0), (100, 30), (3 * FEWEST_VERIFIED, FEWEST_VERIFIED)):
        server.metrics_reporter.spec_total_num_accept_tokens = tokens
        server.metrics_reporter.spec_total_num_forward_ct = verified
        publisher.publish(server)
    found = served()
    assert found["g4diag_accept_length"] == found["g4diag_accept_length_best"] == {labelled(): 3.0}
    # The cache was flushed: sglang counts from 0, and drafts are accepted less.
    server.metrics_reporter.spec_total_num_accept_tokens = server.metrics_reporter.spec_total_num_forward_ct = 256
    publisher.publish(server)
    found = served()
    assert found["g4diag_accept_length"] == {labelled(): 1.0}
    assert found["g4diag_accept_length_best"] == {labelled(): 3.0}


def test_a_disarmed_trap_is_told(on: Armed) -> None:
    guard.set_raising(False)
    broken = samples.healthy_read(page_table_BP=None)
    for _ in range(3):
        sink(on).sink(broken)
    Publisher(on, None).publish(scheduler())
    assert served()["g4diag_trap_armed"][labelled(trap=READS)] == 0.0


def test_launches_of_the_device_check_are_counted(on: Armed, tmp_path: Path) -> None:
    on.live = Live([selection.traps()[READS]], tmp_path, on_device=True)
    assert on.live.device is not None and not on.live.is_disarmed(READS)
    on.live.device.launched["target", "swa"] += 7
    Publisher(on, None).publish(scheduler())
    assert served()["g4diag_device_check_launches_total"] == {labelled(worker="target", layer_kind="swa"): 7.0}


def test_labels_take_few_values(on: Armed) -> None:
    tally = sink(on).tally
    for number in range(500):
        tally.violations[f"trap{number}", f"s{number}", f"worker{number}", f"kind{number}"] += 1
        tally.checks[READS, f"worker{number}", f"kind{number}"] += 1
        tally.dumps[(f"trap{number}",)] += 1
    server = scheduler(metrics_collector=SimpleNamespace(labels={"tp_rank": "../../x", "pp_rank": 10**9}))
    Publisher(on, None).publish(server)
    found = served()
    ((labels, total),) = found["g4diag_violations_total"].items()
    assert total == 500 and set(dict(labels).values()) == {OTHER, ""}
    assert [len(found[f"g4diag_{name}_total"]) for name in ("checks", "dumps")] == [1, 1]


@pytest.mark.parametrize("why", ["sglang's are off", "no folder"])
def test_where_sglang_serves_none_there_are_none(
    why: str, on: Armed, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "no folder":
        monkeypatch.delenv(metrics.FOLDER)
    Publisher(on, 2.8).publish(scheduler(enable_metrics=why == "no folder"))
    assert not list(folder.glob("*.db"))


def test_our_own_errors_are_never_raised_and_end_it(on: Armed, monkeypatch: pytest.MonkeyPatch) -> None:
    guard.set_raising(False)

    def failing(*args: object, **kwargs: object) -> None:
        tried.append(1)
        raise OSError("no space left on device")

    tried: list[int] = []
    monkeypatch.setattr(prometheus_client, "Gauge", failing)
    publisher = Publisher(on, None, clock := Clock())
    for _ in range(6):
        publisher._stepped(None, scheduler(), None, None)
        clock.now += EVERY
    assert len(tried) == 3


def test_it_is_hooked_where_steps_end_and_undone(on: Armed, caplog: pytest.LogCaptureFixture) -> None:
    from sglang.srt.managers.scheduler import Scheduler

    before = Scheduler.process_batch_result, Scheduler.on_idle
    with metrics.armed(on, None):
        assert Scheduler.process_batch_result is not before[0] and Scheduler.on_idle is not before[1]
    assert (Scheduler.process_batch_result, Scheduler.on_idle) == before


def test_where_it_cannot_be_hooked_the_traps_work_on(
    on: Armed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(self: Publisher) -> list[Any]:
        raise PatchRefused("scheduler.on_idle", "a place to hook in this release", "none known")

    monkeypatch.setattr(Publisher, "hooks", refused)
    with metrics.armed(on, None):
        pass
    assert "g4diag metrics NOT SERVED: scheduler.on_idle" in caplog.text


def test_the_page_names_every_metric() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    for metric in (*COUNTERS, *GAUGES):
        name = metric.name + "_total" * (metric in COUNTERS)
        row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), None)
        assert row is not None, name
        assert all(f"`{label}`" in row for label in metric.labels), name


@pytest.mark.parametrize("name", ["metrics.md", "metrics/alerts.yml", "metrics/dashboard.json"])
def test_pages_rules_and_dashboard_ask_for_metrics_that_there_are(name: str) -> None:
    known = {m.name + "_total" for m in COUNTERS} | {m.name for m in GAUGES}
    asked = set(re.findall(r"\bg4diag_\w+", (DOCS / name).read_text(encoding="utf-8"))) - {"g4diag_"}
    assert asked and asked <= known, asked - known
