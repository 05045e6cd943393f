"""`g4diag repro SCENARIO`: make a bug happen on the real stack, and hold every cure against the truth."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g4diag import settings
from g4diag.atomic_write import atomic_write
from g4diag.cli import contract
from g4diag.cli.contract import Command, completing
from g4diag.errors import UsageError, unknown

if TYPE_CHECKING:
    from g4diag.scenario import Options, Progress, Scenario

_NAMES = completing("repro", "SCENARIO")
_SCENARIO = typer.Argument(help="A name from --list.", metavar="SCENARIO", autocompletion=_NAMES)
_INTERPRETED = typer.Option("--interpreted", help="CPU: kernels that compute ids run in Triton, not in torch; slower.")
_WIDTH = 170  # columns where stdout is no terminal


class Device(StrEnum):
    """Where a scenario runs."""

    cpu = "cpu"
    cuda = "cuda"


class Pair(StrEnum):
    """Whose weights a server has."""

    random = "random"
    accepting = "accepting"


class Way(StrEnum):
    """How a server decodes."""

    eager = "eager"
    graph = "graph"


def repro(
    scenario: Annotated[str | None, _SCENARIO] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the scenarios and leave.")] = False,
    all_of_them: Annotated[
        bool, typer.Option("--all", help="Run every scenario on the CPU; one scored table.")
    ] = False,
    state: Annotated[list[str] | None, typer.Option(help="Run only this state; may be given again.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON (schema g4diag.repro) in place of text.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same output.")] = 0,
    requests: Annotated[int | None, typer.Option(help="Requests served.")] = None,
    page_size: Annotated[int | None, typer.Option(help="Tokens a page: 16, 32 or 64.")] = None,
    ratio: Annotated[float | None, typer.Option(help="SWA tokens a full token, as --swa-full-tokens-ratio.")] = None,
    window: Annotated[int | None, typer.Option(help="Sliding window, tokens.")] = None,
    chunk: Annotated[int | None, typer.Option(help="Chunked prefill size, tokens; 0 for unchunked.")] = None,
    interpreted: Annotated[bool, _INTERPRETED] = False,
    dump_dir: Annotated[
        Path | None, typer.Option(help="Where dumps go; default G4DIAG_DUMP_DIR, else g4diag-dumps.")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="cuda: real servers. Default: cuda if it can be used.")] = None,
    path: Annotated[Way | None, typer.Option(help="cuda: without or with decode CUDA graphs; default both.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=1, help="cuda: seconds until a server is killed; default 300.")
    ] = None,
    coredump: Annotated[
        bool, typer.Option("--coredump", help="cuda: have a lightweight core dump and read it.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, max=16, help="cuda, --all: so many at a time.")] = None,
    model_pair: Annotated[
        Pair | None, typer.Option(help="cuda: accepting: weights whose drafts are right. Default: the scenario's.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="cuda: report, results, logs; a re-run goes on.")] = None,
) -> None:
    """Run a scenario on the installed sglang: its classes in this process, or on a GPU real servers.

    Exit 0 every state as expected, 1 one was not, 2 usage, 3 sglang or a GPU is missing, or sglang is of a
    version that this command cannot drive, 4 vacuous or inconclusive.
    """
    from g4diag.scenario import Options
    from g4diag.scenario.catalogue import scenarios

    known = scenarios()
    if list_them:
        return _list(known.values())
    for_servers: dict[str, object] = {"--path": path, "--out": out, "--model-pair": model_pair}
    for_servers |= {"--coredump": coredump, "--time-limit": time_limit}
    if all_of_them:
        for_one = {"--state": state, "--requests": requests, "--page-size": page_size, "--ratio": ratio}
        more = {"--window": window, "--chunk": chunk, "--device": device, "--seed": seed, "--interpreted": interpreted}
        _refuse("--all runs every scenario on the CPU with what each declares", {**for_one, **more, **for_servers})
        raise typer.Exit(_all(scenario, jobs, dump_dir, json))
    if scenario not in known:
        raise unknown("scenario", scenario, known) if scenario else UsageError("which SCENARIO? `--list` names them")
    sizes = (requests, page_size, ratio, window, chunk)
    on_server = (path and path.value, time_limit or 300, coredump, jobs or 1, out)
    options = Options(seed, tuple(state or ()), *sizes, dump_dir, *on_server, pair=model_pair and model_pair.value)
    options, chosen = replace(options, interpreted=interpreted), known[scenario]
    if _on_gpu(chosen, device):
        raise typer.Exit(_on_server(chosen, options, json))
    _refuse(f"{chosen.name} runs on the CPU here, in this process", {**for_servers, "--jobs": jobs})
    raise typer.Exit(_on_cpu(chosen, options, json))


def _refuse(why: str, options: Mapping[str, object]) -> None:
    """UsageError for an option that would be ignored."""
    if given := [name for name, value in options.items() if value]:
        raise UsageError(f"{why}: {', '.join(given)} would be ignored")


def _list(known: Iterable[Scenario]) -> None:
    from g4diag.report.console import console
    from g4diag.report.lines import table

    rows = [(found.name, ", ".join(found.needs), found.symptom) for found in known]
    table(("scenario", "runs on", "symptom"), rows, console(_WIDTH), wraps=True)


def _on_cpu(scenario: Scenario, options: Options, json: bool) -> int:
    """sglang's classes in this process; the exit code."""
    from g4diag.report import repro_drive_json, repro_drive_text, repro_json, repro_text
    from g4diag.report.console import console
    from g4diag.scenario import DriveOutcome, start

    (scenario.selected_drives if scenario.drives else scenario.selected)(options.states)
    settings.require_writable(settings.dump_dir(options.dump_dir))
    if contract.own_process:
        start.begin(scenario)
    with _progress(lines=True) as progress:
        outcome = scenario.run(options, progress)
    if isinstance(outcome, DriveOutcome):
        if json:
            typer.echo(repro_drive_json.render(outcome))
        else:
            repro_drive_text.render(outcome, console(_WIDTH))
    elif json:
        typer.echo(repro_json.render(outcome))
    else:
        repro_text.render(outcome, console(_WIDTH))
    return 0 if outcome.as_expected else 1


def _all(scenario: str | None, jobs: int | None, dump_dir: Path | None, json: bool) -> int:
    """Every scenario, each in a process of its own; the exit code."""
    from g4diag.report import repro_all_json, repro_all_text
    from g4diag.report.console import console
    from g4diag.scenario.catalogue import listed, run_all
    from g4diag.stack import releases

    if scenario is not None:
        raise UsageError(f"--all runs every scenario: found {scenario!r} too")
    settings.require_writable(settings.dump_dir(dump_dir))
    releases.require()  # once, and not by each scenario's process
    with _progress(lines=True) as progress:
        board = run_all(listed(), jobs or min(2, os.cpu_count() or 1), dump_dir, progress)
    if json:
        typer.echo(repro_all_json.render(board))
    else:
        repro_all_text.render(board, console(_WIDTH))
    return board.exit_code


def _on_gpu(scenario: Scenario, device: Device | None) -> bool:
    if device is not None and device.value not in scenario.needs:
        raise UsageError(f"{scenario.name} runs on {', '.join(scenario.needs)} only")
    if scenario.needs == ("cuda",):
        return True
    if device is None and scenario.server_states:
        from g4diag.servers.gpu import usable

        return usable()
    return device is Device.cuda


def _on_server(scenario: Scenario, options: Options, json: bool) -> int:
    """Real servers; the exit code. A polite request to leave takes them along."""
    from g4diag.scenario.on_server import run_on_server

    _refuse(f"{scenario.name} runs on a GPU here, with no interpreter", {"--interpreted": options.interpreted})
    if options.out is not None:
        settings.require_writable(options.out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _progress(lines=True) as progress:
        outcome = run_on_server(scenario, options, progress)
    from g4diag.report.repro_server_json import render as render_json

    if options.out is not None:
        atomic_write(options.out / "report.json", render_json(outcome) + "\n")
    if json:
        typer.echo(render_json(outcome))
    else:
        from g4diag.report.console import console
        from g4diag.report.repro_server_text import render

        render(outcome, console(_WIDTH))
    return outcome.exit_code


@contextmanager
def _progress(lines: bool = False) -> Iterator[Progress]:
    """One live line on a terminal's stderr; elsewhere nothing, or one line each."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text, done, total: print(f"[{done + 1}/{total}] {text}", file=sys.stderr) if lines else None
        return
    with console.status("loading sglang") as status:
        yield lambda text, done, total: status.update(f"[{done + 1}/{total}] {text}")


COMMAND = Command("repro", repro)
