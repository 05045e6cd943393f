"""What every scenario file under `repro/` declares. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from g4diag.errors import unknown
from g4diag.scenario.driven import Drive, DriveOutcome
from g4diag.scenario.readings import Outcome
from g4diag.scenario.standing import Line, Where

_S = TypeVar("_S", "State", "ServerState", Drive)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class State:
    """One way to run the scenario. patches: applied for it, in order. twin: uses the draft it must not break.
    draft: how the draft is made, as keywords. environment: variables set for it. backend: of target and draft.
    eager, graph: the expected outcome of each path: "equal", "faults", "wrong" or "raises" and an exception's name.
    where: outcomes expected in place of those where certain lines are in the source, the first that fits.

    equal: the truth bit for bit, no trap fired. faults: some page ids leave the pool, others are wrong in range.
    wrong: none leaves the pool and the K/V read is wrong. raises: a draft ended so; those after it are judged too.
    """

    name: str
    what: str
    patches: tuple[str, ...]
    eager: str
    graph: str
    twin: bool = False
    draft: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    backend: str = "trtllm_mha"
    where: tuple[Where, ...] = ()

    @property
    def as_released(self) -> bool:
        """Nothing is put back, cured or switched."""
        return not self.patches and not self.environment

    def expecting(self, outcomes: Mapping[str, str]) -> State:
        """The same, with the outcomes that are expected on the installed release, by path."""
        return replace(self, eager=outcomes.get("eager", self.eager), graph=outcomes.get("graph", self.graph))


@dataclass(frozen=True)
class ServerState:
    """One way to start a real server on a GPU, and how that ends: an outcome of `g4diag.servers.crash_log`, or one of
    several with "or" between.

    engine, environment: on top of the scenario's own. graphs: with decode CUDA graphs, without, or both in turn.
    traps: armed at level warn, and one of them has to name the read. coredump: ask CUDA for one, which has to name a
    kernel. surfaces: "elsewhere" or "at the launch", of the Python line that reports, against the scenario's
    `launches`; "" where it does not matter.
    """

    name: str
    what: str
    patches: tuple[str, ...]
    expected: str
    engine: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    graphs: tuple[bool, ...] = (False, True)
    traps: str = ""
    coredump: bool = False
    surfaces: str = ""


@dataclass(frozen=True)
class Load:
    """What a real server is sent, greedy. pair: "random", whose prompts are random ids and whose drafts are never
    right, or "accepting", whose accept length is a reading. engine: arguments of every state of the scenario.
    patches: on in every state, to keep another scenario's bug out of this one; eager_patches: where there are no
    decode graphs."""

    requests: int = 24
    prompt: int = 4000
    new_tokens: int = 128
    engine: Mapping[str, Any] = field(default_factory=dict)
    patches: tuple[str, ...] = ()
    eager_patches: tuple[str, ...] = ()
    pair: str = "random"


@dataclass(frozen=True)
class Options:
    """What the command line may change. Sizes in tokens; None: the scenario's default. states: names, empty: all.
    interpreted: on the CPU the kernels that compute ids run in Triton's interpreter, not by their equals in torch.

    On a GPU also: path, "eager" or "graph", None for both; time_limit: seconds a server may take; coredump: ask CUDA
    for one; jobs: servers at a time; out: folder of the logs and of the results as they come, which a second run
    into the same folder does not repeat; pair: in place of the load's.
    """

    seed: int = 0
    states: tuple[str, ...] = ()
    requests: int | None = None
    page_size: int | None = None
    ratio: float | None = None
    window: int | None = None
    chunk: int | None = None
    dump_dir: Path | None = None
    path: str | None = None
    time_limit: float = 300.0
    coredump: bool = False
    jobs: int = 1
    out: Path | None = None
    pair: str | None = None
    interpreted: bool = False


@dataclass(frozen=True)
class Scenario:
    """One bug. name: what a person types. states, run: on the CPU, in this process; drives in place of states where
    single classes show it, and neither where only a GPU does. A state on the CPU whose patches do not fit the installed
    release is left out. server_states, load: the same on a GPU, each a real server in a process of its own. since:
    lines that came with the bug's code, before: lines that it replaced; a release that is older by them, and in which
    no damage is done, does not have the bug yet. launches: parts of the paths of the Python files that launch the
    kernel which faults. without_model: its drives build allocators, pools and what schedules requests, and nothing that
    runs a model. plans: attention backends, by name, that such drives build and have plan, and whose forwards they do
    not run."""

    name: str
    symptom: str
    upstream: str
    states: tuple[State, ...]
    run: Callable[[Options, Progress], Outcome | DriveOutcome]
    server_states: tuple[ServerState, ...] = ()
    load: Load = Load()
    drives: tuple[Drive, ...] = ()
    since: tuple[Line, ...] = ()
    before: tuple[Line, ...] = ()
    launches: tuple[str, ...] = ()
    without_model: bool = False
    plans: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Devices it can run on."""
        devices = (("cpu", self.states or self.drives), ("cuda", self.server_states))
        return tuple(name for name, states in devices if states)

    @property
    def outcomes(self) -> frozenset[str]:
        """All that its drives may be expected to come to, on whatever release."""
        return frozenset(said for each in self.drives for said in (each.expected, *(w.outcome for w in each.where)))

    def patches(self) -> tuple[str, ...]:
        """Names of the patches that its states on the CPU apply, sorted."""
        applied = [*(state.patches for state in self.states), *(drive.patches for drive in self.drives)]
        return tuple(sorted({name for names in applied for name in names}))

    def selected(self, names: tuple[str, ...]) -> tuple[State, ...]:
        """The states to run on the CPU, in file order. UsageError for an unknown name."""
        return _selected(self.name, self.states, names)

    def selected_drives(self, names: tuple[str, ...]) -> tuple[Drive, ...]:
        """The drives to run, in file order. UsageError for an unknown name."""
        return _selected(self.name, self.drives, names)

    def selected_servers(self, names: tuple[str, ...]) -> tuple[ServerState, ...]:
        """The states to run on a GPU, in file order. UsageError for an unknown name."""
        return _selected(self.name, self.server_states, names)


def _selected(scenario: str, states: tuple[_S, ...], names: tuple[str, ...]) -> tuple[_S, ...]:
    known = {state.name: state for state in states}
    for name in names:
        if name not in known:
            raise unknown(f"state of {scenario}", name, known)
    return tuple(state for state in states if not names or state.name in names)
