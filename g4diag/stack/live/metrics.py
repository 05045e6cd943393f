"""What traps did, on sglang's own /metrics: counted as the server runs, published at most every few seconds.

sglang serves /metrics from another process than the one whose traps judge, and gathers both through files that
prometheus_client keeps in PROMETHEUS_MULTIPROC_DIR. Only a scheduler publishes, and only where sglang's own metrics are
on; it does so after a step's result or while it idles, from counters, and one comparison of a clock is all that other
steps pay. Labels take few values: what is not known to us is "other". Never raises into the server; gives up after a
few failures.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.guard import guard
from g4diag.hooks.install import Hook, install
from g4diag.stack.live.arming import Armed
from g4diag.stack.releases import current

logger = logging.getLogger("g4diag")

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
EVERY = 5.0  # seconds
OTHER = "other"
RANKS = ("tp_rank", "pp_rank", "dp_rank")
# Requests verified: fewer say little of how long drafts are accepted.
FEWEST_VERIFIED = 256
_MAX_FAILURES = 3
_KINDS, _WORKERS, _SEVERITIES = frozenset({"full", "swa", ""}), frozenset({"target", "draft", ""}), {"error", "warning"}


@dataclass(frozen=True)
class Metric:
    """name: without the prefix and, of a counter, without `_total`. labels: besides the ranks."""

    name: str
    says: str
    labels: tuple[str, ...] = ()


COUNTERS = (
    Metric(
        "g4diag_violations",
        "Violations found; the same wrong state counts once a look.",
        ("trap", "severity", "worker", "layer_kind"),
    ),
    Metric("g4diag_checks", "Judgements on the host, by trap.", ("trap", "worker", "layer_kind")),
    Metric(
        "g4diag_device_check_launches",
        "Launches of the device check from Python; a replay of a CUDA graph that holds one is not counted.",
        ("worker", "layer_kind"),
    ),
    Metric("g4diag_steps", "Scheduler steps whose results were processed."),
    Metric("g4diag_dumps", "Dumps written, by the trap that fired.", ("trap",)),
)
GAUGES = (
    Metric("g4diag_trap_armed", "1: armed; 0: does not fit this sglang, or disarmed after failing.", ("trap",)),
    Metric("g4diag_accept_length", f"Mean tokens a verify step, over the last {FEWEST_VERIFIED} or more requests."),
    Metric("g4diag_accept_length_best", "The highest g4diag_accept_length of this process so far."),
    Metric("g4diag_accept_length_healthy", "G4DIAG_HEALTHY_ACCEPT, as it was given."),
)


class Series:
    """The metrics themselves, in prometheus_client. ranks: of this scheduler."""

    def __init__(self, ranks: dict[str, str]) -> None:
        # Not before sglang has named the folder: where values are kept is settled by the first import.
        from prometheus_client import CollectorRegistry, Gauge
        from prometheus_client import Counter as Total

        registry, self._ranks = CollectorRegistry(), ranks
        self._told: Counter[tuple[str, ...]] = Counter()
        names = (*ranks,)
        self._made: dict[str, Any] = {
            m.name: Total(m.name, m.says, (*m.labels, *names), registry=registry) for m in COUNTERS
        }
        self._made |= {
            m.name: Gauge(m.name, m.says, (*m.labels, *names), registry=registry, multiprocess_mode="mostrecent")
            for m in GAUGES
        }

    def count(self, name: str, labels: tuple[str, ...], total: int) -> None:
        """A counter's value so far."""
        key = (name, *labels)
        self._of(name, labels).inc(total - self._told[key])
        self._told[key] = total

    def set(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """A gauge's value now."""
        self._of(name, labels).set(value)

    def _of(self, name: str, labels: tuple[str, ...]) -> Any:
        return self._made[name].labels(*labels, *self._ranks.values())


class Publisher:
    """Of one scheduler. healthy: the accept length of a healthy run, None if nobody gave it. clock: in seconds."""

    def __init__(self, on: Armed, healthy: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._on, self._healthy, self._clock = on, healthy, clock
        self._traps = {*on.traps, *(refused.trap for refused in on.refused)}
        self._series: Series | None = None
        self._next, self._failures, self._steps = 0.0, 0, 0
        self._seen = self._window = (0, 0)
        self._best = 0.0

    def hooks(self) -> list[Hook]:
        """After a step's result, and before the scheduler idles."""
        release = current()
        return [
            release.hook("scheduler.process_batch_result", "after", self._stepped),
            release.hook("scheduler.on_idle", "before", self._idle),
        ]

    def _stepped(self, result: Any, scheduler: Any, *args: Any, **kwargs: Any) -> None:
        self._steps += 1
        self._idle(scheduler)

    def _idle(self, scheduler: Any, *args: Any, **kwargs: Any) -> None:
        now = self._clock()
        if now < self._next or self._failures >= _MAX_FAILURES:
            return
        self._next = now + EVERY
        self._failures += 1
        with guard("publishing metrics"):
            self.publish(scheduler)
            self._failures = 0

    def publish(self, scheduler: Any) -> None:
        """All that is known by now; nothing where sglang serves no metrics."""
        if FOLDER not in os.environ or not current().read.serves_metrics(scheduler):
            return
        if self._series is None:
            of_sglang = current().read.metric_labels(scheduler)
            self._series = Series({name: _rank(of_sglang.get(name)) for name in RANKS})
        series = self._series
        for name, totals in self._totals():
            for labels, total in totals.items():
                series.count(name, labels, total)
        for trap in self._traps:
            armed = trap in self._on.traps and not (self._on.live and self._on.live.is_disarmed(trap))
            series.set("g4diag_trap_armed", (trap,), float(armed))
        self._accept(series, scheduler)

    def _totals(self) -> Iterator[tuple[str, Counter[tuple[str, ...]]]]:
        steps: Counter[tuple[str, ...]] = Counter()
        steps[()] = self._steps
        yield "g4diag_steps", steps
        if (live := self._on.live) is None:
            return
        known, tally = self._traps, live.tally
        yield "g4diag_violations", _few(tally.violations, known, _SEVERITIES, _WORKERS, _KINDS)
        yield "g4diag_checks", _few(tally.checks, known, _WORKERS, _KINDS)
        yield "g4diag_dumps", _few(tally.dumps, known)
        if live.device is not None:
            yield "g4diag_device_check_launches", _few(live.device.launched, _WORKERS, _KINDS)

    def _accept(self, series: Series, scheduler: Any) -> None:
        if self._healthy is not None:
            series.set("g4diag_accept_length_healthy", (), self._healthy)
        tokens, verified = current().read.accepted(scheduler)
        if verified < self._seen[1] or tokens < self._seen[0]:  # sglang begins anew when its cache is flushed
            self._seen = (0, 0)
        self._window = (self._window[0] + tokens - self._seen[0], self._window[1] + verified - self._seen[1])
        self._seen = (tokens, verified)
        if self._window[1] >= FEWEST_VERIFIED:
            length, self._window = self._window[0] / self._window[1], (0, 0)
            self._best = max(self._best, length)
            series.set("g4diag_accept_length", (), length)
            series.set("g4diag_accept_length_best", (), self._best)


def _few(totals: Counter[Any], *known: Iterable[str]) -> Counter[tuple[str, ...]]:
    """The same, with "other" for each part of a key that is none of the known."""
    found: Counter[tuple[str, ...]] = Counter()
    for key, total in totals.copy().items():
        found[tuple(str(part) if part in names else OTHER for part, names in zip(key, known, strict=True))] += total
    return found


def _rank(value: Any) -> str:
    """As sglang labels it; without a rank of that kind no label, which is what "" is."""
    said = "" if value is None else str(value)
    return said if said == "" or (said.isascii() and said.isdigit() and len(said) < 6) else OTHER


def armed(on: Armed, healthy: float | None) -> contextlib.AbstractContextManager[object]:
    """Publish what these traps do, until it is left. Where the scheduler's steps cannot be hooked the traps work on
    without it."""
    try:
        return install("g4diag metrics", Publisher(on, healthy).hooks())
    except PatchRefused as refusal:
        logger.warning("g4diag metrics NOT SERVED: %s", refusal)
        return contextlib.nullcontext()
