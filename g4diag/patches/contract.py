"""What every patch file declares: one upper-case PATCH, plain data around a lazy list of hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from packaging.specifiers import SpecifierSet

from g4diag.hooks.anchors import Anchor, pin
from g4diag.hooks.attribute_patches import Swap
from g4diag.hooks.install import Hook
from g4diag.hooks.versions import version_of

State = Literal["upstream", "applied", "available", "not-applicable", "refused"]


@dataclass(frozen=True)
class Status:
    """How a patch stands to the installed sglang. wanted, found: both sides, for every state but `applied`.
    recorded: there is nothing to apply, see `Patch.recorded`."""

    state: State
    wanted: str = ""
    found: str = ""
    recorded: bool = False

    @property
    def can_apply(self) -> bool:
        """By name: `upstream` too, since a cure may be wanted on top of a fault state."""
        return self.state in ("available", "upstream", "applied") and not self.recorded


def nothing_to_apply() -> tuple[Hook, ...]:
    """The `hooks` of a recorded patch."""
    return ()


@dataclass(frozen=True)
class Patch:
    """One fix, or one fault state.

    name: the word a person types. kind: a `fault` is never applied unless named. why: symptom and cause.
    how: what it changes. upstream: reference. releases: PEP 440 range of the sglang releases it is wanted in.
    anchors: source it relies on, each of which must match exactly once. upstream_when: an anchor whose match says
    that upstream has the cure. hooks: imports sglang only when called. verify: raises PatchRefused if the applied
    patch does not do its work; called once, after the hooks. needs: cures or faults to apply before it.
    partial: a demonstration, insufficient by itself, so `all` leaves it out. swaps: as hooks, for module attributes
    that cannot be wrapped (a triton.jit kernel); on after the hooks, off before them.
    """

    name: str
    kind: Literal["cure", "fault"]
    why: str
    how: str
    upstream: str
    releases: str
    anchors: tuple[Anchor, ...]
    hooks: Callable[[], Sequence[Hook]]
    remove_when: str
    upstream_when: Anchor | None = None
    verify: Callable[[], None] | None = None
    needs: tuple[str, ...] = ()
    partial: bool = False
    swaps: Callable[[], Sequence[Swap]] = tuple

    @property
    def recorded(self) -> bool:
        """A cure that upstream took before any release we serve with: a row of the series, verified by its anchors.
        Where they match it is `upstream`, elsewhere `not-applicable`; applying it by name is refused, since a
        manifest that lists it would claim work that nobody did."""
        return self.hooks is nothing_to_apply


def fit(patch: Patch) -> Status:
    """The patch against the installed sglang, from metadata and source alone; nothing is imported or raised.
    Never `applied`: what is on in this process is `g4diag.patches.applying.status`."""
    release = version_of("sglang")
    wanted = f"sglang {patch.releases}"
    if release is None:
        return Status("not-applicable", wanted, "no sglang")
    if patch.recorded:
        return _recorded(patch, wanted, release)
    if patch.upstream_when is not None and pin(patch.upstream_when).matched:
        return Status("upstream", wanted, f"sglang {release}, which has the cure")
    if not SpecifierSet(patch.releases).contains(release, prereleases=True):
        return Status("not-applicable", wanted, f"sglang {release}")
    return unmatched(patch) or Status("available", wanted, f"sglang {release}")


def _recorded(patch: Patch, wanted: str, release: str) -> Status:
    if lacks := unmatched(patch):
        return Status("not-applicable", lacks.wanted, lacks.found, recorded=True)
    return Status("upstream", wanted, f"sglang {release}, which has the cure: nothing to apply", recorded=True)


def unmatched(patch: Patch) -> Status | None:
    """`refused`, with the first anchor that does not match exactly once; None when all do."""
    for anchor in patch.anchors:
        if not (found := pin(anchor)).matched:
            return Status("refused", f"{anchor.text!r} once in {anchor.target}", found.why)
    return None
