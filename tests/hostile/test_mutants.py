"""Mutants of every format break no promise: a bounded run. By hand for longer: `python tests/hostile/mutate.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.hostile import mutate

SCRIPT = Path(__file__).parent / "mutate.py"
COUNT, SECONDS, SEED = 300, 15, 18


def test_no_mutant_breaks_a_promise() -> None:
    command = [sys.executable, str(SCRIPT), "--count", str(COUNT), "--seconds", str(SECONDS), "--seed", str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and not done.stderr, done.stdout[-4000:] + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    ended = {key: count for key, count in counts.items() if key.startswith("exit")}
    # It changed enough to be refused, and little enough to be judged.
    assert counts["broken"] == 0 and sum(ended.values()) >= 50 and ended["exit 5"] > 5 and ended["exit 1"] > 0
    assert counts["seed exit 1"] >= 5 and "INTERNAL ERROR" not in counts


def test_a_broken_promise_is_seen(tmp_path: Path) -> None:
    """Else none would prove nothing."""
    data = dict(mutate.seeds())
    faulty = mutate.Seed("x", data["trtllm-mha-swa-faulty-seed0.pt"], 1)
    path = tmp_path / "x.pt"
    path.write_bytes(faulty.data)
    assert mutate.promise(faulty, path, "exit 0", "") == "CLEAN for a faulty file's mutant"
    log = mutate.Seed("x", data["h100-surfaced-elsewhere.log"], 4)
    path.write_bytes(log.data)
    assert mutate.promise(log, path, "exit 0", "") and mutate.promise(log, path, "exit 4", "") == ""
    assert mutate.promise(log, path, "INTERNAL ERROR", "") and mutate.promise(log, path, "exit 5", "Traceback")
    assert mutate.promise(log, path, "exit 4", "", mutate.MAX_KIB + 1) == "more than 1 GiB" and mutate.peak_kib() > 0
