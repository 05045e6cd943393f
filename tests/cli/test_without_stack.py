"""Where there is no stack, what needs one leaves with 3 and one line, whichever command and whichever scenario."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from g4diag.errors import GET_THE_STACK
from tests.contracts.rules import HEAVY

# In one process for all, as nothing gets far. None in sys.modules makes an import fail as that of a missing package.
PROGRAM = """
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))
from g4diag.hooks import versions
versions.version_of = lambda distribution: None
import g4diag.serve.plan
g4diag.serve.plan.version_of = versions.version_of
from g4diag.cli.main import run
from g4diag.scenario.catalogue import scenarios
lines = [["repro", name] for name in scenarios()]
lines += [["minimize", "trtllm-mha-swa"], ["fuzz", "swa-allocator", "--examples", "1"], ["doctor", "--selftest"]]
lines += [["patches", "verify"], ["serve", "--", "--model-path", "x"]]
for line in lines:
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()) as out:
        code = run(line)
    print(json.dumps([" ".join(line), code, out.getvalue(), said.getvalue()]))
"""


def test_it_cannot_run_and_says_so_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, json.dumps(sorted(HEAVY))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 20
    for line, code, out, said in rows:
        assert (line, code, out, said.count("\n")) == (line, 3, "", 1), said
        assert said.endswith(f"; {GET_THE_STACK}\n") and "found none" in said, (line, said)
    assert not list(tmp_path.iterdir())
