"""A fuzzing campaign as text: one block a machine, a failure with its program first."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from g4diag.model.campaign import Campaign, Failure, MachineRun
from g4diag.report.lines import line
from g4diag.report.plain import plain


def render(campaign: Campaign, console: Console) -> None:
    """Print the whole report to `console`."""
    kept = f", finds kept in {campaign.database}" if campaign.database else ""
    versions = " ".join(f"{name} {version or 'none'}" for name, version in campaign.versions.items())
    line(Text(plain(f"{versions}{kept}"), style="dim"), console)
    for run in campaign.runs:
        for text in _lines(run):
            line(text, console)


def _lines(run: MachineRun) -> list[Text]:
    lines: list[Text] = []
    if run.faults:
        put_back = ", ".join(run.faults)
        lines.append(Text(f"fault states re-introduced: {put_back}; sglang as released has none of them", "yellow"))
    if run.failure:
        lines += _failure(run, run.failure)
    elif run.missing:
        lines.append(Text(plain(f"VACUOUS: {run.machine}: never reached {', '.join(run.missing)}"), style="bold red"))
    else:
        lines.append(Text(f"CLEAN: {run.machine}: every goal reached, nothing broken", style="bold green"))
    spent = f"{run.ran}, {run.steps} steps in {run.seconds:.1f} s"
    lines.append(Text(f"  seed {run.seed}: {spent}, {run.steps_per_second:.0f}/s, {run.share:.0%} inside sglang"))
    lines.append(Text(plain(f"  reached: {_counters(run.coverage)}")))
    lines.append(Text(plain(f"  judged: {_counters(run.judged)}")))
    return lines


def _failure(run: MachineRun, failure: Failure) -> list[Text]:
    lines = [Text(plain(f"BROKEN: {run.machine}: {failure.claim}: {failure.text}"), style="bold red")]
    if failure.also:
        lines.append(Text(plain(f"  the same step also breaks {', '.join(failure.also)}")))
    took = f"found after {failure.found_after} steps, {failure.seconds:.1f} s"
    if failure.repeats:
        lines.append(Text(f"  {took}; shrunk to {failure.length} steps in {failure.shrink_seconds:.1f} s"))
    else:
        lines.append(Text(f"  {took}; it did not break again when the same {failure.length} steps were run once more"))
    lines += [Text(plain(f"    {step}")) for step in failure.program]
    if failure.test is not None:
        lines.append(Text(plain(f"  test: {failure.test}   next: pytest {failure.test}")))
    if failure.dump is not None:
        lines.append(Text(plain(f"  dump: {failure.dump}   next: g4diag inspect {failure.dump}")))
    return lines


def _counters(counters: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counters.items()) or "nothing"
