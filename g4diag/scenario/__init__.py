"""What every scenario file under `repro/` declares, what a run of one gives back, and how it is scored. Plain data."""

from g4diag.scenario.contract import Load, Options, Progress, Scenario, ServerState, State
from g4diag.scenario.driven import SILENT, Drive, DriveOutcome, DriveReading, Found
from g4diag.scenario.readings import Outcome, Reading, ServerOutcome, ServerReading
from g4diag.scenario.score import Board, Row, Score
from g4diag.scenario.standing import Cell, LeftOut, Line, Where

__all__ = [
    "SILENT",
    "Board",
    "Cell",
    "Drive",
    "DriveOutcome",
    "DriveReading",
    "Found",
    "LeftOut",
    "Line",
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
    "Where",
]
