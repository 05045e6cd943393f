"""A log in place of a command line: the arguments that its server says it was started with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from g4diag.errors import UsageError, VacuousError

DRAFT, NOT_TOLD = "speculative-draft-model-path", "(not named in the log)"


@dataclass(frozen=True)
class LogArguments:
    """arguments: as on sglang's command line. release, gpu: "" where the log does not name them. issue: the known issue
    that its crash matches, "" for none; is_matched: False where it is merely possible."""

    arguments: tuple[str, ...]
    release: str
    gpu: str
    issue: str = ""
    is_matched: bool = False


def named_log(arguments: Sequence[str]) -> Path | None:
    """The log that `doctor` was given instead of arguments, or in front of those it lacks; None where it was given
    arguments."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] != "-"):
        return None
    if len(arguments) > 1 and not arguments[1].startswith("--"):
        raise UsageError(f"wanted one log, or sglang's arguments after --: found {arguments[0]} and {arguments[1]}")
    path = Path(arguments[0])
    if arguments[0] != "-" and not path.exists():
        raise UsageError(f"{arguments[0]}: wanted sglang's arguments after --, or a log; found no such file")
    return path


def read_arguments(path: Path) -> LogArguments:
    """Of the last start that the log tells. Raises as `inspect` does, and VacuousError for a log without any."""
    # Here, since every command's help comes past this module.
    from g4diag.model import Grade
    from g4diag.sandbox import inspect_files

    inspection = inspect_files([path])
    data = next((f.data for f in inspection.of("log_server") if f.data.get("flags")), None)
    if data is None:
        raise VacuousError(
            f"{path}: wanted a log that holds its server_args, found none in it; "
            "give them: g4diag doctor --sglang-version RELEASE -- ARGUMENTS"
        )
    if data["engine"] not in ("sglang", ""):
        raise VacuousError(f"{path}: hazards are known of sglang alone, and this log is of {data['engine']}")
    named = dict(data["flags"])
    if named.get("speculative-algorithm") and DRAFT not in named:
        named[DRAFT] = NOT_TOLD  # a log that is quoted in part is no command line without a draft
    flags = [part for name, value in named.items() for part in (f"--{name}", *([value] if value else []))]
    issue = next(iter(inspection.of("known_issues")), None)
    return LogArguments(
        tuple(map(str, flags)),
        str(data["release"]),
        str(data["sm"]),
        issue="" if issue is None else str(issue.data["id"]),
        is_matched=issue is not None and issue.grade is not Grade.GUESS,
    )
