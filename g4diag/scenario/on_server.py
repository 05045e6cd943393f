"""Run a scenario's server states on a GPU: mechanism for the scenario files, no scenario itself.

Each state, with decode graphs and without, is one job: one real server, sent the scenario's load. What came of it is
appended to a file as it comes, so a run that was cut short goes on where it was. Where rates are read, servers are sent
their load one at a time, and the first when no other is still starting, as long as all of them run at once (`--jobs`).
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from g4diag.errors import CannotRunError, UsageError
from g4diag.model import LogEvent
from g4diag.scenario import Options, Progress, Scenario, ServerOutcome, ServerReading, ServerState
from g4diag.stack.pairs import tiny_pair

if TYPE_CHECKING:
    from g4diag.servers.run import Result

_RESULTS, _LOGS = "results.jsonl", "logs.txt"
_LOG_LINES = 120
_WARM = 2  # prompts before a load whose rates are read
_STAGGER = 3.0  # seconds between two starts, so that each sees the ports and the memory the other has taken


def _gpu(scenario: Scenario) -> dict[str, str]:
    from g4diag.servers.gpu import require_gpu

    try:
        return require_gpu()
    except CannotRunError as error:
        raise CannotRunError(f"{error}{'; --device cpu needs none' if 'cpu' in scenario.needs else ''}") from None


def run_on_server(scenario: Scenario, options: Options, progress: Progress) -> ServerOutcome:
    """Every selected state on every selected path. Raises CannotRunError, UsageError."""
    from g4diag.hooks.versions import installed
    from g4diag.stack import releases

    states = scenario.selected_servers(options.states)
    releases.require()
    gpu = _gpu(scenario)
    out = options.out or Path(tempfile.mkdtemp(prefix="g4diag-servers-"))
    out.mkdir(parents=True, exist_ok=True)
    todo = [(state, graphs) for graphs in _paths(options) for state in states if graphs in state.graphs]
    known = {(r.state, r.graphs): r for r in _recorded(out, _run(scenario, options))}
    missing = [(state, graphs) for state, graphs in todo if (state.name, graphs) not in known]
    engine = _pair(_pair_name(scenario, options)) | dict(scenario.load.engine) | {"random_seed": options.seed}
    stop = Event()
    folders = [_folder(scenario, options, out, state, graphs) for state, graphs in missing]
    turns = _turns(out, folders) if _warm(scenario, options) else None
    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        running = [
            pool.submit(_one, scenario, options, engine, state, graphs, i, out, stop, turns)
            for i, (state, graphs) in enumerate(missing)
        ]
        if turns is not None:
            Thread(target=_open, args=(turns, running, folders, options.jobs), daemon=True).start()
        recorded: set[Future[ServerReading]] = set()

        def record(future: Future[ServerReading]) -> ServerReading:
            recorded.add(future)
            _record(out, _run(scenario, options), future.result())
            return future.result()

        try:
            for done, future in enumerate(as_completed(running)):
                reading = record(future)
                known[reading.state, reading.graphs] = reading
                progress(f"{reading.state}/{reading.path}: {reading.outcome}", done, len(running))
        except BaseException:
            stop.set()  # the servers that run now are killed, and none is started; their logs are worth keeping
            pool.shutdown(cancel_futures=True)
            for future in {future for future in running if not future.cancelled()} - recorded:
                record(future)
            raise
    return ServerOutcome(
        scenario=scenario.name,
        seed=options.seed,
        gpu=gpu,
        versions=installed(),
        engine={name: value for name, value in engine.items() if not name.endswith("_path")},
        load={
            "requests": _requests(scenario, options),
            "prompt": scenario.load.prompt,
            "new": scenario.load.new_tokens,
            "pair": _pair_name(scenario, options),
        },
        faults=_faults(states),
        readings=tuple(known[state.name, graphs] for state, graphs in todo),
    )


def _one(
    scenario: Scenario,
    options: Options,
    engine: dict[str, Any],
    state: ServerState,
    graphs: bool,
    index: int,
    out: Path,
    stop: Event,
    turns: Path | None,
) -> ServerReading:
    from g4diag.patches.applying import lacking
    from g4diag.servers.run import Job, run

    stop.wait(_STAGGER * index if index < options.jobs else 0.0)
    more = {"disable_cuda_graph": not graphs, "port": _first_port(scenario) + 150 * index}
    arguments = {k: v for k, v in (engine | dict(state.engine) | more).items() if v is not None}
    load, pair = scenario.load, _pair_name(scenario, options)
    result = run(
        Job(
            engine=arguments,
            patches=state.patches + lacking(load.patches + (() if graphs else load.eager_patches)),
            environment=_environment(state),
            folder=_folder(scenario, options, out, state, graphs),
            seconds=options.time_limit,
            seed=options.seed,
            requests=_requests(scenario, options),
            prompt_tokens=load.prompt,
            new_tokens=load.new_tokens,
            pair=pair,
            warm=_warm(scenario, options),
            coredump=options.coredump or state.coredump,
            turns=turns,
        ),
        stop,
    )
    return _reading(scenario, state, graphs, result)


def _first_port(scenario: Scenario) -> int:
    """Below the ports that the kernel gives away; by name, so that two scenarios may run side by side."""
    return 10_000 + 1_600 * (zlib.crc32(scenario.name.encode()) % 14)


def _reading(scenario: Scenario, state: ServerState, graphs: bool, result: Result) -> ServerReading:
    digests = {str(index): _digest(ids) for index, ids in sorted(result.tokens.items())}
    return ServerReading(
        state=state.name,
        graphs=graphs,
        outcome=result.outcome,
        expected=state.expected,
        finished=result.finished,
        requests=result.requests,
        seconds=round(result.seconds, 1),
        start_seconds=result.start_seconds,
        error=result.error,
        log=str(result.log),
        digest=_digest(tuple(digests.values())) if digests else "",
        request_digests=digests,
        swa_use=result.swa_use,
        accept_length=result.accept_length,
        output_rate=result.output_rate,
        tpot_ms=result.tpot_ms,
        on_task=result.on_task,
        armed=tuple(sorted({*result.armed.get("patches", ()), *result.armed.get("faults", ())})),
        core=result.core,
        reported=result.reported.where if result.reported else "",
        surfaces=_surfaces(scenario, result.reported),
        surfaces_expected=state.surfaces,
        kernel=result.kernel,
        named=result.named,
        unheard=_unheard(state, result),
        accept_log=result.accept_log,
    )


def _environment(state: ServerState) -> dict[str, str]:
    return ({"G4DIAG_TRAPS": state.traps} if state.traps else {}) | dict(state.environment)


def _unheard(state: ServerState, result: Result) -> str:
    if state.coredump and not result.kernel:
        return "core dump"
    return "trap" if state.traps and not result.named else ""


def _surfaces(scenario: Scenario, reported: LogEvent | None) -> str:
    """Whether the line that reported is one that launches what faulted; "" where no line did, or it does not matter."""
    if reported is None or not scenario.launches:
        return ""
    return "at the launch" if any(part in reported.text for part in scenario.launches) else "elsewhere"


def _folder(scenario: Scenario, options: Options, out: Path, state: ServerState, graphs: bool) -> Path:
    pair = _pair_name(scenario, options)
    names = [scenario.name, state.name, "graph" if graphs else "eager", *([] if pair == "random" else [pair])]
    return out / "servers" / "-".join(names)


def _warm(scenario: Scenario, options: Options) -> int:
    return 0 if _pair_name(scenario, options) == "random" else _WARM


def _turns(out: Path, servers: Sequence[Path]) -> Path:
    for server in servers:
        (server / "events.jsonl").unlink(missing_ok=True)  # of a run that was cut short: it says that all are warm
    folder = out / "turns"
    folder.mkdir(exist_ok=True)
    (folder / "go").unlink(missing_ok=True)
    return folder


def _open(turns: Path, running: Sequence[Future[ServerReading]], folders: Sequence[Path], jobs: int) -> None:
    """Let the loads begin: when every server is warm or over, or at once if they do not all run at a time."""
    from g4diag.servers.run import read_events

    def starting(future: Future[ServerReading], folder: Path) -> bool:
        return not future.done() and not any(row["event"] == "warm" for row in read_events(folder / "events.jsonl"))

    while jobs >= len(running) and any(map(starting, running, folders)):
        time.sleep(0.5)
    (turns / "go").touch()


def _paths(options: Options) -> tuple[bool, ...]:
    return (False, True) if options.path is None else (options.path == "graph",)


def _requests(scenario: Scenario, options: Options) -> int:
    return scenario.load.requests if options.requests is None else options.requests


def _pair_name(scenario: Scenario, options: Options) -> str:
    return options.pair or scenario.load.pair


def _pair(name: str) -> dict[str, Any]:
    """Engine arguments of this pair, whose folders are written."""
    if name not in ("random", "accepting"):
        raise UsageError(f"unknown model pair {name!r}; known: random, accepting")
    folder = Path(tempfile.mkdtemp(prefix="g4diag-pair-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # 88 MB
    if name == "random":
        engine, (target, draft) = tiny_pair.ENGINE, tiny_pair.write_pair(folder)
    else:
        from g4diag.stack.pairs.accepting_pair import files

        engine, (target, draft) = files.ENGINE, files.write_pair(folder)
    return engine | {"model_path": str(target), "speculative_draft_model_path": str(draft)}


def _faults(states: tuple[ServerState, ...]) -> tuple[str, ...]:
    from g4diag.patches.applying import patches

    known = patches()
    return tuple(sorted({name for state in states for name in state.patches if known[name].kind == "fault"}))


def _digest(values: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]


def _run(scenario: Scenario, options: Options) -> dict[str, Any]:
    """What readings must share to stand in one report."""
    return {"scenario": scenario.name, "seed": options.seed, "pair": _pair_name(scenario, options)}


def _record(out: Path, of: Mapping[str, Any], reading: ServerReading) -> None:
    """One line for the result, and the end of the log: what is left when the machine is gone."""
    with (out / _RESULTS).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({**of, "reading": asdict(reading)}) + "\n")
    from g4diag.servers.crash_log import tail

    log = Path(reading.log)
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    with (out / _LOGS).open("a", encoding="utf-8") as stream:
        stream.write(f"===== {of['scenario']} {reading.state}/{reading.path}: {reading.outcome}: {reading.error}\n")
        stream.writelines(f"{line[:600]}\n" for line in [*tail(text, _LOG_LINES), *reading.core])


def _recorded(out: Path, of: Mapping[str, Any]) -> Iterator[ServerReading]:
    """Conclusive readings of an earlier run into the same folder."""
    path = out / _RESULTS
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        row = json.loads(line)
        if {"pair": "random"} | row == {**of, "reading": row["reading"]}:
            lists = {name: tuple(value) for name, value in row["reading"].items() if isinstance(value, list)}
            reading = ServerReading(**row["reading"] | lists)
            if not reading.inconclusive:
                yield reading
