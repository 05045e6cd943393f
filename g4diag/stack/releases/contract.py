"""What every release file declares: one upper-case RELEASE, which says where sglang keeps what we hook, how it is read,
and how it is driven. Everything else of g4diag asks by name and knows no release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.specifiers import SpecifierSet

from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook, Kind


@dataclass(frozen=True)
class Point:
    """A place to hook. path: dotted. parameters: names of the leading parameters that a hook unpacks, self left out;
    held against the signature before anything is hooked."""

    path: str
    parameters: tuple[str, ...] = ()


def _never(allocator: Any) -> bool:
    return False


# The scheduler's reporter; where a release has none, the scheduler itself keeps what it would.
def _reporter(scheduler: Any) -> Any:
    return getattr(scheduler, "metrics_reporter", scheduler)


def _serves_metrics(scheduler: Any) -> bool:
    return bool(getattr(_reporter(scheduler), "enable_metrics", False))


def _metric_labels(scheduler: Any) -> Mapping[str, Any]:
    return getattr(getattr(_reporter(scheduler), "metrics_collector", None), "labels", {})


def _accepted(scheduler: Any) -> tuple[int, int]:
    reporter = _reporter(scheduler)
    return getattr(reporter, "spec_total_num_accept_tokens", 0), getattr(reporter, "spec_total_num_forward_ct", 0)


def _matched(cache: Any, result: Any) -> Any:
    return result.device_indices


@dataclass(frozen=True)
class Readers:
    """sglang's objects -> what a probe asks of them. Plain attribute access: nothing is copied and nothing waits.

    request_row(req): int or None, its row of req_to_token. free_lists(sub_allocator): int64 tensors of page ids, slots
    of an unpaged one, which together are all that is free. is_deferred(allocator): a free now only joins a group.
    is_swa_deferred(allocator): a free of SWA slots alone does too, and leaves the mapping as it is.
    is_swa_pool(pool): whether it is a hybrid pool of full and SWA layers. layer_is_swa(pool, layer id): of such a pool.
    write_slots(argument, rest, named): (slots in full space, slots in SWA space or None) of a pool's write, from its
    `loc` argument and the call's other arguments.
    Of a scheduler: serves_metrics: whether sglang's own /metrics is on. metric_labels: its label -> value there.
    accepted: (tokens accepted, requests verified) since it began to count, (0, 0) without speculation.
    matched(cache, result): int64 full slots, by position, of what a prefix cache's match has on the device.
    regroups: whether a deferred free comes again through the same call, all at once, when its group ends."""

    request_row: Callable[[Any], int | None]
    free_lists: Callable[[Any], tuple[Any, ...]]
    is_deferred: Callable[[Any], bool]
    is_swa_pool: Callable[[Any], bool]
    layer_is_swa: Callable[[Any, int], bool]
    write_slots: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], tuple[Any, Any]]
    is_swa_deferred: Callable[[Any], bool] = _never
    regroups: bool = True
    serves_metrics: Callable[[Any], bool] = _serves_metrics
    metric_labels: Callable[[Any], Mapping[str, Any]] = _metric_labels
    accepted: Callable[[Any], tuple[int, int]] = _accepted
    matched: Callable[[Any, Any], Any] = _matched


@dataclass(frozen=True)
class Release:
    """One line of releases. name: the one it was written for. versions: PEP 440, what was meant. known_by: what is
    really there; all of them match, once each, in the source of this line and of no other. points: name -> place; a
    name that is not among them is not there in this release, and `lacks` says why. read: attribute readers. drive:
    dotted module with the functions that drive its classes on a CPU; imported by whoever drives, since it is heavy.
    undriven: why there are none that fit it, for a release that is known in part. renamed: a server argument's name in
    0.5.13 -> its name here."""

    name: str
    versions: str
    known_by: tuple[Anchor, ...]
    points: Mapping[str, Point]
    read: Readers
    drive: str
    lacks: Mapping[str, str] = field(default_factory=dict)
    undriven: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Server arguments that are given by 0.5.13's names, by this release's."""
        return {self.renamed.get(name, name): value for name, value in given.items()}

    def has(self, name: str) -> bool:
        """Whether there is such a place."""
        return name in self.points

    def path(self, name: str) -> str:
        """The dotted path of a place. PatchRefused if this release has none."""
        if name not in self.points:
            raise PatchRefused(name, "a place to hook in this release", self.lacks.get(name, "none known"))
        return self.points[name].path

    def hook(self, name: str, kind: Kind, function: Callable[..., Any]) -> Hook:
        """A probe's hook there, with its signature pinned. PatchRefused if this release has no such place."""
        path = self.path(name)
        return Hook(path, kind, function, observes=True, parameters=self.points[name].parameters)

    def means(self, version: str) -> bool:
        """Whether this file was written for that version."""
        return SpecifierSet(self.versions).contains(version, prereleases=True)
