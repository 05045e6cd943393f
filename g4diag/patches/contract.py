"""What every patch file declares: one upper-case PATCH, plain data around a lazy list of hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from packaging.specifiers import SpecifierSet

from g4diag.hooks.anchors import Anchor, Pin, pin
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


Hooks = Callable[[], Sequence[Hook]]
Swaps = Callable[[], Sequence[Swap]]


def nothing_to_apply() -> tuple[Hook, ...]:
    """The `hooks` of a recorded patch."""
    return ()


@dataclass(frozen=True)
class Form:
    """How a patch is done on one line of releases, where upstream's text differs from line to line. The fields are
    those of `Patch`. releases: what is intended, for people and for the test that holds it against every wheel; which
    form fits is told by its anchors alone."""

    releases: str
    anchors: tuple[Anchor, ...]
    hooks: Hooks
    swaps: Swaps = tuple
    verify: Callable[[], None] | None = None


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
    forms: in place of hooks, swaps and verify where they differ by release, the likeliest first; `anchors` are then
    those that all forms have.
    """

    name: str
    kind: Literal["cure", "fault"]
    why: str
    how: str
    upstream: str
    releases: str
    remove_when: str
    anchors: tuple[Anchor, ...] = ()
    hooks: Hooks = tuple
    upstream_when: Anchor | None = None
    verify: Callable[[], None] | None = None
    needs: tuple[str, ...] = ()
    partial: bool = False
    swaps: Swaps = tuple
    forms: tuple[Form, ...] = ()

    @property
    def ways(self) -> tuple[Form, ...]:
        """Its forms, each with the anchors that all have; of a patch without forms, itself as the only one."""
        if not self.forms:
            return (Form(self.releases, self.anchors, self.hooks, self.swaps, self.verify),)
        return tuple(replace(form, anchors=(*self.anchors, *form.anchors)) for form in self.forms)

    @property
    def recorded(self) -> bool:
        """A cure that upstream took before any release we serve with: a row of the series, verified by its anchors.
        Where they match it is `upstream`, elsewhere `not-applicable`; applying it by name is refused, since a
        manifest that lists it would claim work that nobody did."""
        return all(form.hooks is nothing_to_apply for form in self.ways)


@dataclass(frozen=True)
class Source:
    """An sglang to hold patches against: its release, None where there is none, and how to look an anchor up in it."""

    release: str | None
    pin: Callable[[Anchor], Pin]


def installed() -> Source:
    """What this process would import."""
    return Source(version_of("sglang"), pin)


def fit(patch: Patch, source: Source | None = None) -> Status:
    """The patch against the installed sglang or another source, from metadata and text alone; nothing is imported or
    raised. Never `applied`: what is on in this process is `g4diag.patches.applying.status`."""
    source = source or installed()
    release, wanted = source.release, f"sglang {patch.releases}"
    if release is None:
        return Status("not-applicable", wanted, "no sglang")
    if patch.recorded:
        return _recorded(patch, wanted, source)
    if patch.upstream_when is not None and source.pin(patch.upstream_when).matched:
        return Status("upstream", wanted, f"sglang {release}, which has the cure")
    if not _wanted_in(patch.releases, release):
        return Status("not-applicable", wanted, f"sglang {release}")
    return unmatched(patch, source) or Status("available", wanted, f"sglang {release}")


def form_for(patch: Patch, source: Source | None = None) -> Form | None:
    """The first form whose anchors all match, whatever the release is called."""
    held = (source or installed()).pin
    return next((form for form in patch.ways if all(held(anchor).matched for anchor in form.anchors)), None)


def unmatched(patch: Patch, source: Source | None = None) -> Status | None:
    """`refused`, with the first anchor that does not match exactly once; None when all of a form do. Where no form
    does, it is the form meant for this release that is asked, or else the last."""
    source = source or installed()
    if form_for(patch, source) is not None:
        return None
    meant = (form for form in patch.ways if source.release and _wanted_in(form.releases, source.release))
    for anchor in next(meant, patch.ways[-1]).anchors:
        if not (found := source.pin(anchor)).matched:
            return Status("refused", f"{anchor.text!r} once in {anchor.target}", found.why)
    raise AssertionError(f"{patch.name}: a form that does not match has no anchor that does not")


def _recorded(patch: Patch, wanted: str, source: Source) -> Status:
    if lacks := unmatched(patch, source):
        return Status("not-applicable", lacks.wanted, lacks.found, recorded=True)
    return Status("upstream", wanted, f"sglang {source.release}, which has the cure: nothing to apply", recorded=True)


def _wanted_in(releases: str, release: str) -> bool:
    return SpecifierSet(releases).contains(release, prereleases=True)
