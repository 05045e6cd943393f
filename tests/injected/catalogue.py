"""Every injected fault, by name."""

from __future__ import annotations

from tests.injected import frees, pools, rows, tables
from tests.injected.contract import Fault

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*tables.FAULTS, *frees.FAULTS, *rows.FAULTS, *pools.FAULTS)}
