"""What every scenario file under `repro/` declares, what a run of one gives back, and how it is scored. Plain data."""

from g4diag.scenario.contract import Load, Options, Progress, Scenario, ServerState, State
from g4diag.scenario.driven import SILENT, Drive, DriveOutcome, DriveReading, Found
from g4diag.scenario.readings import Outcome, Reading, ServerOutcome, ServerReading
from g4diag.scenario.score import Board, Row, Score

__all__ = [
    "SILENT",
    "Board",
    "Drive",
    "DriveOutcome",
    "DriveReading",
    "Found",
    "Load",
    "Options",
    "Outcome",
    "Progress",
    "Reading",
    "Row",
    "Scenario",
    "Score",
    "ServerOutcome",
    "ServerReading",
    "ServerState",
    "State",
]
