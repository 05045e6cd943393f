"""The rule of #25103 is right for EAGLE and blind for frozen-KV."""

from __future__ import annotations

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.manifest import armed_manifest
from g4diag.patches.applying import applied
from tests.patches.runners import resolved, swa_pool

UPSTREAM = {"target": True, "frozen-kv": True, "eagle": False}


def test_only_the_frozen_draft_is_resolved_wrong() -> None:
    pool = swa_pool()
    assert resolved(pool) == UPSTREAM
    with applied(["faulty-rule"]) as manifest:
        assert manifest == {"patches": [], "faults": ["faulty-rule"], "traps": []}
        assert resolved(pool) == UPSTREAM | {"frozen-kv": False}
    assert resolved(pool) == UPSTREAM and not armed_manifest()["faults"]
