"""Every injected fault, by name."""

from __future__ import annotations

from tests.injected import frees, pools, rows, tables, trees, upstream
from tests.injected.contract import Fault

_ALL = (*tables.FAULTS, *frees.FAULTS, *rows.FAULTS, *pools.FAULTS, *trees.FAULTS, *upstream.FAULTS)
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
