"""The patch series against the installed stack: the table, and the proof that each cure does change its targets."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from g4diag.discover import contributions
from g4diag.errors import GET_THE_STACK, CannotRunError, G4DiagError, PatchRefused, UsageError
from g4diag.hooks.targets import imported, told
from g4diag.hooks.versions import version_of
from g4diag.matrix.cells import matrix
from g4diag.matrix.words import releases_in
from g4diag.model.doctor import PatchRow, SkippedRow, TrapRow, VerifyRow
from g4diag.patches import applying
from g4diag.patches.contract import Patch, fit, form_for
from g4diag.servers.hardware import gpus
from g4diag.settings import Selection
from g4diag.stack.drive.cpu import prepare_environment
from g4diag.traps.contract import Trap


def patch_rows() -> tuple[PatchRow, ...]:
    """Every file of the series, from metadata and source alone; one that does not import is a row that says why."""
    rows = []
    for found in contributions("g4diag.patches", "PATCH"):
        if isinstance(found.value, Patch):
            rows.append(_row(found.value))
        else:
            rows.append(PatchRow(found.name, "?", "broken", "a PATCH", found.error or type(found.value).__name__))
    return tuple(rows)


def trap_rows() -> tuple[TrapRow, ...]:
    """Every trap; one that does not import is a row that says why."""
    found = contributions("g4diag.traps", "TRAP")
    good = (
        TrapRow(t.value.name, t.value.claim, t.value.cost, t.value.runs) for t in found if isinstance(t.value, Trap)
    )
    bad = (TrapRow(t.name, "", "", (), t.error or "no TRAP in it") for t in found if not isinstance(t.value, Trap))
    return (*good, *bad)


def verify(names: Sequence[str] = ()) -> tuple[VerifyRow, ...]:
    """Put each patch on by itself, with what it needs, and look at its targets; then all of `all` together, as a
    server would. names: which; without, every cure that can apply here. UsageError: unknown name."""
    known = applying.patches()
    chosen = applying.selected_patches(Selection(names=tuple(names))) if names else _applicable(known)
    rows = [_verified(known[name]) for name in chosen]
    together = applying.selected_patches(Selection(everything=True))
    if together and not names:
        rows.append(_together(together))
    return tuple(rows)


def verify_here(names: Sequence[str] = ()) -> tuple[VerifyRow, ...]:
    """`verify` in a process that may not have a GPU: the seams that sglang's modules need to import are set first.
    CannotRunError without sglang."""
    applying.selected_patches(Selection(names=tuple(names)))
    if version_of("sglang") is None:
        raise CannotRunError(f"sglang: wanted one to verify against, found none; {GET_THE_STACK}")
    if not gpus():
        prepare_environment()
    return verify(names)


_SKIPPED = {
    "upstream": "upstream, nothing to apply",
    "not-applicable": "not for this release",
    "broken": "not loadable",
}


def skipped(names: Sequence[str] = ()) -> tuple[SkippedRow, ...]:
    """What `verify(names)` does not put on, and why. Without names a cure that does not fit, and every fault."""
    rows = [row for row in patch_rows() if row.name not in (names or _applicable(applying.patches()))]
    return tuple(SkippedRow(row.name, row.kind, "not named" if names else _why_skipped(row)) for row in rows)


def _why_skipped(row: PatchRow) -> str:
    return "faults, by name only" if row.kind == "fault" else _SKIPPED.get(row.state, row.state)


def _applicable(known: dict[str, Patch]) -> tuple[str, ...]:
    """Cures that can go on here, over sglang's own where it has them; not those whose place in it is gone."""
    cures = ((name, patch) for name, patch in known.items() if patch.kind == "cure")
    return tuple(name for name, patch in cures if fit(patch).can_apply and form_for(patch))


def _verified(patch: Patch) -> VerifyRow:
    upstream = fit(patch).state == "upstream"
    try:
        # Hook lists are made anew on each call; targets are what matters here.
        before = {path: _bound(path) for path in _targets(patch)}
        with applying.applied((patch.name,)):
            changed = tuple(path for path, raw in before.items() if _bound(path) is not raw)
            problems = applying.problems()
        left = [path for path, raw in before.items() if _bound(path) is not raw]
    except G4DiagError as error:
        return VerifyRow(patch.name, patch.kind, error=str(error), upstream=upstream)
    except Exception as error:  # sglang's own, from an import or from a call that `verify` makes: a row, like any other
        return VerifyRow(patch.name, patch.kind, error=f"wanted its targets, found {told(error)}", upstream=upstream)
    missing = [path for path in before if path not in changed]
    return VerifyRow(patch.name, patch.kind, changed, next(_faults(missing, problems, left), ""), upstream)


def _targets(patch: Patch) -> tuple[str, ...]:
    form = form_for(patch)
    if form is None:
        return ()  # applying it will say which anchor is missing
    hooked, swapped = (hook.target for hook in form.hooks()), (swap.target for swap in form.swaps())
    return tuple(dict.fromkeys([*hooked, *swapped]))


def _bound(path: str) -> Any:
    """What is bound at a dotted path, descriptor included."""
    holder, _, name = path.rpartition(".")
    return inspect.getattr_static(imported(holder), name, None)


def _faults(missing: Sequence[str], problems: Sequence[str], left: Sequence[str]) -> Iterator[str]:
    yield from (f"{path}: wanted it changed, found it as it was" for path in missing)
    yield from problems
    yield from (f"{path}: wanted it put back, found it changed" for path in left)


def _together(names: tuple[str, ...]) -> VerifyRow:
    try:
        with applying.applied(names):
            problems = applying.problems()
    except (PatchRefused, UsageError) as error:
        return VerifyRow("all", "cure", error=str(error))
    except Exception as error:
        return VerifyRow("all", "cure", error=f"wanted their targets, found {told(error)}")
    return VerifyRow("all", "cure", names, "; ".join(problems))


def _row(patch: Patch) -> PatchRow:
    status = applying.status(patch)
    wanted_by_all = patch.kind == "cure" and not patch.partial
    return PatchRow(
        name=patch.name,
        kind=patch.kind,
        state=status.state,
        wanted=status.wanted,
        found=status.found,
        why=patch.why,
        how=patch.how,
        upstream=patch.upstream,
        releases=patch.releases,
        remove_when=patch.remove_when,
        needs=patch.needs,
        in_all=wanted_by_all and status.state in ("available", "applied"),
        partial=patch.partial,
        known_releases=releases_in(matrix(), patch.releases),
    )
