"""Traps armed one by one: each is hooked or refused by itself, with what was wanted and what was found."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from g4diag.errors import PatchRefused
from g4diag.hooks.aliases import one_pass
from g4diag.hooks.install import Installation, install
from g4diag.settings import Selection
from g4diag.stack.live.parts import Part
from g4diag.stack.live.selection import selected_traps
from g4diag.stack.live.selection import traps as known_traps
from g4diag.stack.live.sink import Live

logger = logging.getLogger("g4diag")

OWNER = "g4diag traps"


@dataclass(frozen=True)
class Refused:
    """A trap that is not armed. target: where it would have looked. wanted, found: what that was to be, and is."""

    trap: str
    target: str
    wanted: str
    found: str

    @property
    def told(self) -> str:
        """In one line."""
        return f"{self.trap}: {self.target}: wanted {self.wanted}, found {self.found}"


class Armed:
    """Traps that are on. `undo()` is idempotent; as a context manager it undoes on exit."""

    def __init__(self) -> None:
        self.traps: tuple[str, ...] = ()
        self.refused: tuple[Refused, ...] = ()
        self.parts: dict[str, Installation] = {}
        self.live: Live | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets hooked, in the order in which they were."""
        return tuple(target for part in self.parts.values() for target in part.targets)

    def undo(self) -> None:
        """Take every hook away."""
        was_on = bool(self.parts)
        with one_pass():
            while self.parts:
                self.parts.popitem()[1].undo()
        if was_on and self.live is not None:
            self.live.disarm()

    def __enter__(self) -> Armed:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def armed(
    names: Sequence[str],
    dump_dir: Path | None,
    *,
    level: str = "warn",
    every: int = 1,
    require: Selection | None = None,
    log: str = "text",
    kind: type[Live] = Live,
) -> Armed:
    """Install the probes of these traps; undo by leaving. every: check page tables on one eager step of so many.
    require: traps without which nothing is to be armed. log: a violation's form there, `text` or `json`. kind: what
    takes the views. PatchRefused for one of those that does not fit, or if none of all fits; nothing is left behind
    then."""
    import torch

    known = known_traps()
    live = kind(
        [known[name] for name in names],
        dump_dir,
        level=level,
        every=every,
        on_device=torch.cuda.is_available(),
        log=log,
    )
    result = Armed()
    result.live = live
    with ExitStack() as attempt:
        attempt.callback(result.undo)
        with one_pass():
            _install(live, result)
        result.traps = tuple(name for name in names if name not in {refused.trap for refused in result.refused})
        _require(result, names, require or Selection())
        live.keep_only(result.traps, result.parts)
        attempt.pop_all()
    if result.traps:
        # WARNING: sglang loads plugins before it configures logging, and INFO would be lost.
        logger.warning("g4diag level=%s: %s", level, live.reach)
    for refused in result.refused:
        logger.warning("g4diag trap NOT ARMED: %s", refused.told)
    for name, why in live.unwatched.items():
        logger.warning("g4diag attention backend NOT WATCHED: %s: %s", name, why)
    return result


def _install(live: Live, result: Armed) -> None:
    """Every part that fits; what does not is in `result.refused`, trap by trap."""
    lacking: dict[str, PatchRefused] = {}
    for part in live.parts():
        blocked = next((lacking[name] for name in part.needs if name in lacking), None)
        if blocked is not None:
            result.refused += tuple(_refused(name, blocked) for name in part.traps)
            continue
        views = frozenset(part.traps.values())
        try:
            result.parts[part.name] = install(OWNER, part.hooks(views))
        except PatchRefused as refusal:
            if not part.traps:
                lacking[part.name] = refusal
            else:
                _install_what_fits(part, views, refusal, result)
    first = {refused.trap: refused for refused in reversed(result.refused)}  # a trap may need several parts
    result.refused = tuple(refused for refused in result.refused if first[refused.trap] is refused)


def _install_what_fits(part: Part, views: frozenset[type], refusal: PatchRefused, result: Armed) -> None:
    """Each of its views by itself, then all that fit together: one that does not must not cost the others."""
    why = dict.fromkeys(views, refusal) if len(views) == 1 else {}
    for view in views - set(why):
        try:
            install(OWNER, part.hooks(frozenset({view}))).undo()
        except PatchRefused as of_view:
            why[view] = of_view
    if fitting := views - set(why):
        result.parts[part.name] = install(OWNER, part.hooks(fitting))
    result.refused += tuple(_refused(name, why[view]) for name, view in part.traps.items() if view in why)


def _refused(trap: str, refusal: PatchRefused) -> Refused:
    return Refused(trap, refusal.name, refusal.wanted, refusal.found)


def _require(result: Armed, names: Sequence[str], require: Selection) -> None:
    wanted = names if require.everything else selected_traps(require)
    fatal = [refused for refused in result.refused if refused.trap in wanted or not result.traps]
    if fatal:
        raise PatchRefused(f"{fatal[0].trap}: {fatal[0].target}", fatal[0].wanted, fatal[0].found)
    if missing := [name for name in wanted if name not in result.traps]:
        raise PatchRefused(missing[0], "it among the traps to arm", ", ".join(names) or "none")
