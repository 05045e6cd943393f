"""The single `sglang.srt.plugins` entry point: read the settings, apply the patches, write the armed manifest.

sglang calls it in every process it starts and swallows what it raises, so raising stops nothing. The outcome is
therefore a value that stays here: who must not run an unpatched server (`g4diag serve`, `doctor`) asks `outcome()`.
With nothing armed it imports nothing beyond the standard library and adds no hook. Under `g4diag serve` each process
also leaves a record of how it went in G4DIAG_RUN_DIR.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from g4diag.errors import G4DiagError
from g4diag.guard import guard, raising
from g4diag.settings import DEFAULT_DUMP_DIR, Settings, run_dir, traceback_wanted

logger = logging.getLogger("g4diag")


@dataclass(frozen=True)
class Outcome:
    """What `register` did. state: `armed` holds `manifest`, `failed` holds `error`, one line, and nothing is on.
    not_armed: traps that do not fit this sglang, a line each, with what was wanted and found."""

    state: Literal["not called", "inert", "armed", "failed"]
    manifest: dict[str, list[str]] = field(default_factory=dict)
    error: str = ""
    not_armed: tuple[str, ...] = ()


_outcome = Outcome("not called")
_held = ExitStack()


def register() -> None:
    """Entry point. All or nothing, logged in one line, repeated calls do nothing once armed. Raises only under
    G4DIAG_RAISE=1 or tests; see `outcome`."""
    global _outcome
    if _outcome.state == "armed":
        return
    try:
        _outcome = _arm(Settings.from_env(os.environ))
        _record(_outcome)
    except Exception as error:
        _outcome = Outcome("failed", error=f"{type(error).__name__}: {error}")
        _record(_outcome)
        # A refusal of ours says all there is to say; where a defect came from only its traceback tells.
        shown = None if isinstance(error, G4DiagError) and not traceback_wanted() else error
        logger.error("g4diag NOT ARMED, this server runs without it: %s", _outcome.error, exc_info=shown)
        if raising():
            raise


def outcome() -> Outcome:
    """What `register` did in this process."""
    return _outcome


def disarm() -> None:
    """Undo everything `register` did, in reverse. For tests and embedders; a server never calls it."""
    global _outcome
    from g4diag.hooks.aliases import one_pass

    with one_pass():
        _held.close()
    _outcome = Outcome("not called")


def _arm(settings: Settings) -> Outcome:
    if not (settings.patches or settings.traps or settings.recorder):
        return Outcome("inert")
    from g4diag.hooks.aliases import one_pass
    from g4diag.hooks.manifest import armed_manifest, recorded
    from g4diag.patches import applying
    from g4diag.stack.live import selection

    # Names before anything is touched: a misspelt trap must not leave a patched server behind.
    patches, traps = applying.selected_patches(settings.patches), selection.selected_traps(settings.traps)
    not_armed: tuple[str, ...] = ()
    with one_pass(), ExitStack() as attempt:
        attempt.enter_context(applying.applied(patches))
        if traps:
            from g4diag.stack.live import arming, metrics

            armed = attempt.enter_context(
                arming.armed(
                    traps,
                    settings.dump_dir,
                    level=settings.level,
                    every=settings.sample,
                    require=settings.require,
                    log=settings.log,
                )
            )
            if settings.metrics:
                attempt.enter_context(metrics.armed(armed, settings.healthy_accept))
            traps, not_armed = armed.traps, tuple(refused.told for refused in armed.refused)
        attempt.enter_context(recorded("traps", traps))
        if settings.recorder:
            from g4diag.stack.live import recorder

            attempt.enter_context(recorder.armed(settings.dump_dir or DEFAULT_DUMP_DIR))
        manifest = armed_manifest()
        _held.enter_context(attempt.pop_all())
    # WARNING: sglang loads plugins before it configures logging, and INFO would be lost.
    logger.warning("g4diag armed: %s pid=%d", json.dumps(manifest, sort_keys=True), os.getpid())
    if manifest["faults"]:
        logger.warning("g4diag FAULT STATE RE-INTRODUCED ON PURPOSE: %s", ", ".join(manifest["faults"]))
    return Outcome("armed", manifest=manifest, not_armed=not_armed)


def _record(outcome: Outcome) -> None:
    """Tell the `g4diag serve` that started this process, if one did."""
    if folder := run_dir(os.environ):
        from g4diag.stack.live import records

        with guard("writing the arming record"):
            records.write(folder, outcome.state, outcome.error, outcome.manifest, outcome.not_armed)
