"""The rule of #18970 and #26966 is right for frozen-KV and wrong for EAGLE: the mirror of `faulty-rule`."""

from __future__ import annotations

import pytest

pytest.importorskip("sglang")

from g4diag.patches.applying import applied
from tests.patches.runners import resolved, swa_pool


def test_only_the_draft_with_its_own_pool_is_resolved_wrong() -> None:
    pool = swa_pool()
    with applied(["allocator-rule"]):
        assert resolved(pool) == {"target": True, "frozen-kv": True, "eagle": True}
    assert not resolved(pool)["eagle"]
