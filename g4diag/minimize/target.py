"""What to make smaller: a scenario's faulty state and its signature, from the scenario's name or from a dump.

A dump that names its scenario and state is taken at its word, if the state breaks as the dump did. For any other, such
as a live server's, a state is looked for that has the same signature: signatures hold no sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from g4diag.errors import UsageError, VacuousError
from g4diag.minimize.case import Runner, served
from g4diag.minimize.sizes import point_of, sizes_of
from g4diag.model import Inspection
from g4diag.model.reduction import Sizes, Target
from g4diag.scenario import Scenario, State
from g4diag.scenario.catalogue import scenarios

_EQUAL = ("equal", "equal")


def of_scenario(name: str, state: str | None, seed: int, run: Runner) -> Target:
    """The first faulty state with a signature, or the one named. Raises UsageError, CannotRunError, VacuousError."""
    scenario, sizes = served(name), _default()
    tried = []
    for chosen in scenario.selected((state,)) if state else _faulty(scenario):
        case = run(chosen, sizes, seed, "")
        if case.signature:
            return _target(scenario, chosen, seed, case.signature, sizes, "the scenario")
        tried.append(f"{chosen.name} ({case.error or 'silent'})")
    raise VacuousError(
        f"{name}: no trap fires, so there is no signature to keep; tried {', '.join(tried) or 'nothing'}"
    )


def of_dump(found: Inspection, run: Runner) -> Target:
    """The state that breaks as the dump says, at the dump's sizes if it breaks there too. Raises VacuousError,
    and CannotRunError where the dump names a scenario that serves no requests."""
    said: list[dict[str, Any]] = [finding.data for finding in found.of("signature")]
    if not said:
        raise VacuousError(f"{found.name}: no violation in it, so there is no signature to keep")
    signature = str(said[0]["signature"])
    context: dict[str, Any] = next((f.data["context"] for f in found.of("provenance") if "context" in f.data), {})
    seed = context.get("seed")
    seed = seed if isinstance(seed, int) and seed >= 0 else 0
    tried: dict[str, list[str]] = {}
    for scenario, state in _candidates(found, context):
        for sizes, source in ((_like(found), "the dump"), (_default(), "the scenario")):
            if sizes is not None and _breaks(run, state, sizes, seed, signature):
                return _target(scenario, state, seed, signature, sizes, source)
        tried.setdefault(scenario.name, []).append(state.name)
    names = "; ".join(f"{name}: {', '.join(states)}" for name, states in tried.items())
    raise VacuousError(f"{found.name}: no state on the CPU breaks as {signature}; tried {names or 'nothing'}")


def _breaks(run: Runner, state: State, sizes: Sizes, seed: int, signature: str) -> bool:
    try:
        return run(state, sizes, seed, signature).signature == signature
    except Exception:  # sizes of a dump need not be such as this machine can serve
        return False


def _candidates(found: Inspection, context: dict[str, Any]) -> Iterator[tuple[Scenario, State]]:
    """The state that the dump names; if it names none, every faulty one, those with the dump's faults first."""
    known = scenarios()
    if (name := str(context.get("scenario"))) in known:
        named = served(name)
        yield from ((named, state) for state in named.states if state.name == context.get("state"))
        return
    faults = {name for finding in found.of("provenance") for name in finding.data.get("faults", ())}
    rows = [(scenario, state) for scenario in known.values() for state in _faulty(scenario)]
    yield from sorted(rows, key=lambda row: set(row[1].patches) != faults)


def _faulty(scenario: Scenario) -> list[State]:
    return [state for state in scenario.states if not _is_sound(state)]


def _is_sound(state: State) -> bool:
    """Equal to the truth on every release."""
    return (state.eager, state.graph) == _EQUAL and not state.where


def _healthy(scenario: Scenario, faulty: State) -> State:
    """A state that is equal to the truth on the same kind of draft, made alike if there is one, least patched."""
    sound = [s for s in scenario.states if _is_sound(s) and s.twin == faulty.twin]
    if not sound:
        raise VacuousError(f"{scenario.name}: no state of it is healthy, so nothing can be told apart")
    return min(sound, key=lambda s: (s.draft != faulty.draft, s.environment != faulty.environment, len(s.patches)))


def _target(scenario: Scenario, state: State, seed: int, signature: str, sizes: Sizes, source: str) -> Target:
    from g4diag.scenario.measure import faults_of

    healthy, begin = _healthy(scenario, state).name, sizes_of(point_of(sizes))
    return Target(scenario.name, state.name, healthy, seed, signature, faults_of([state]), begin, source)


def _default() -> dict[str, int | float]:
    from g4diag.stack.drive.serving import Geometry

    return asdict(Geometry())


def _like(found: Inspection) -> Sizes | None:
    """The defaults with the dump's page size, ratio and window; None if it does not say, or nothing could be served."""
    from g4diag.stack.drive.serving import Geometry

    pools = {f.data["name"]: f.data for f in found.of("pools") if "num_pages" in f.data}
    windows = [row["window_left"] for f in found.of("layer_map") for row in f.data["layers"] if row["window_left"] > 0]
    if not {"full", "swa"} <= pools.keys() or not windows:
        return None
    page, full, swa = int(pools["swa"]["page_size"]), pools["full"]["num_pages"] - 1, pools["swa"]["num_pages"] - 1
    sizes = _default() | {"page_size": page, "window": int(windows[0])}
    try:
        sizes["ratio"] = min(1.0, round((swa + 0.5) / full, 4))
        sizes["chunk"] = max(page, int(sizes["chunk"]) // page * page)
        Geometry(**sizes).check()  # type: ignore[arg-type]
    except (UsageError, ZeroDivisionError):
        return None
    return sizes
