"""What the tests of every backend do with the device check: arm it, serve under it, read what it said."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from g4diag.stack.live.selection import traps
from g4diag.stack.live.sink import Live

PAGE_TABLE = ("page_table_stays_in_pool", "page_table_in_layer_space")


def armed(level: str, dump_dir: Path) -> Live:
    """The two page-table traps, to be judged on the device."""
    return Live([traps()[name] for name in PAGE_TABLE], dump_dir, level=level, on_device=True)


def serve(live: Live, serving: Any, draft: Any) -> None:
    """A step a request: a prefill, a draft in its graph and a decode."""
    for rid, ids in serving.prompts():
        live.begin_step()
        serving.admit(rid, ids)
        draft.graph()
        serving.decode()
        live.end_step(serving.rid_of)
    assert live.device is not None and live.device.launches > 20


def raising(matching: str, is_contained: bool) -> AbstractContextManager[Any]:
    """Around the end of a step in which the target read a bad table."""
    return pytest.raises(Exception, match=matching) if is_contained else nullcontext()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of violations."""
    return [record.message for record in caplog.records if record.message.startswith("g4diag violation")]
