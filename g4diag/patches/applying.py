"""What is on in this process: patches applied all or nothing, undone in reverse, and the manifest of it.

The manifest goes into every dump and into the log: a dump without it cannot be judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from g4diag.discover import contributions
from g4diag.errors import PatchRefused, UsageError, unknown
from g4diag.hooks.attribute_patches import Swapped, swap
from g4diag.hooks.install import Installation, install
from g4diag.hooks.manifest import Manifest, armed_manifest, recorded
from g4diag.hooks.targets import told
from g4diag.patches.contract import Patch, Status, fit, form_for, unmatched
from g4diag.settings import Selection

_patches: list[tuple[Patch, tuple[Installation | Swapped, ...]]] = []


def patches() -> dict[str, Patch]:
    """Every patch that imports, by name."""
    rows = contributions("g4diag.patches", "PATCH")
    return {row.value.name: row.value for row in rows if isinstance(row.value, Patch)}


def status(patch: Patch) -> Status:
    """`applied` if it is on in this process, else how it fits the installed sglang."""
    return Status("applied") if any(patch.name == on.name for on, _ in _patches) else fit(patch)


def selected_patches(selection: Selection) -> tuple[str, ...]:
    """Names to apply. `all`: every cure available here, no fault, no demonstration. UsageError: unknown name."""
    known = patches()
    if selection.everything:
        return tuple(name for name, patch in known.items() if _in_all(patch))
    return tuple(_known(name, known, "patch") for name in selection.names)


class applied:
    """`with applied(names) as manifest:` patches in the order given, each after what it needs; undone in reverse.

    All or nothing. UsageError: unknown name, or a needed fault that was not named. PatchRefused: one of them does
    not fit, did not take, or does not do its work.
    """

    # A class, not a generator: one held until the process ends would be finalized, and so undone, at shutdown.
    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._undo = tuple(names), ExitStack()

    def __enter__(self) -> Manifest:
        with ExitStack() as undo:
            for patch in _in_order(self._names):
                _apply(patch, undo)
            self._undo = undo.pop_all()
        return armed_manifest()

    def __exit__(self, *_: object) -> None:
        self._undo.close()


def lacking(names: Sequence[str]) -> tuple[str, ...]:
    """Of these cures, those that the installed sglang does not have by itself. UsageError: unknown name."""
    known = patches()
    return tuple(name for name in names if fit(known[_known(name, known, "patch")]).state != "upstream")


def problems() -> list[str]:
    """Applied patches that somebody overrode since, one line each. Empty when all are still in force."""
    return [f"{patch.name}: {line}" for patch, parts in _patches for part in parts for line in part.problems()]


def _apply(patch: Patch, undo: ExitStack) -> None:
    fits = fit(patch)
    refused = unmatched(patch) if fits.can_apply else fits
    form = form_for(patch)
    if refused or form is None:
        raise PatchRefused(patch.name, (refused or fits).wanted, (refused or fits).found)
    try:
        hooked = undo.enter_context(install(patch.name, form.hooks()))
        swapped = undo.enter_context(swap(patch.name, form.swaps()))
        if form.verify is not None:
            form.verify()
    except ImportError as error:
        raise PatchRefused(patch.name, "its targets to import", told(error)) from error
    row = (patch, (hooked, swapped))
    _patches.append(row)
    undo.callback(_patches.remove, row)
    undo.enter_context(recorded("faults" if patch.kind == "fault" else "patches", [patch.name]))


def _in_order(names: Sequence[str]) -> list[Patch]:
    known, ordered, seen = patches(), list[Patch](), set[str]()

    def take(name: str, for_whom: str) -> None:
        patch = known[_known(name, known, "patch")]
        if patch.kind == "fault" and name not in names:
            raise UsageError(f"{for_whom} needs the fault {name}: wanted it named, found {', '.join(names)}")
        if name not in seen:
            seen.add(name)
            for need in patch.needs:
                take(need, name)
            ordered.append(patch)

    for name in names:
        take(name, name)
    return ordered


def _in_all(patch: Patch) -> bool:
    return patch.kind == "cure" and not patch.partial and fit(patch).state == "available"


def _known(name: str, known: Mapping[str, Any], noun: str) -> str:
    if name not in known:
        raise unknown(noun, name, known)
    return name
