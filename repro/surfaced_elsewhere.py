"""The Python line that reports an illegal access is not the one that caused it. On a GPU only.

Like vllm #40756, known here by its title. The device runs behind the host: whoever next waits for it gets the error,
in whatever file that is. Here a draft's XQA kernel reads past the SWA pool (the frozen-KV SWA bug), and the traceback
ends in code that has nothing to do with it. Three witnesses do name it: launches that wait (CUDA_LAUNCH_BLOCKING=1;
without decode graphs, as a graph's replay is one launch of hundreds of kernels), the core dump of the device, and a
trap.

The same requests with the faulty rule of #25103 put back, as a server runs ever, then under each witness, then healthy.
"""

from __future__ import annotations

import sys

from g4diag.errors import CannotRunError
from g4diag.scenario import Load, Options, Outcome, Progress, Scenario, ServerState

_FAULT = ("faulty-rule",)
_BLOCKING = {"CUDA_LAUNCH_BLOCKING": "1"}


def run(options: Options, progress: Progress) -> Outcome:
    """Nothing: on the CPU there is no device that could run behind. Raises CannotRunError."""
    raise CannotRunError("surfaced-elsewhere needs a GPU")


SCENARIO = Scenario(
    name="surfaced-elsewhere",
    symptom="an illegal memory access reported at a Python line that only waited for the device",
    upstream="of every asynchronous device; vllm #40756 (its title)",
    states=(),
    run=run,
    server_states=(
        ServerState("async", "faulty, launches as ever", _FAULT, "illegal-access", surfaces="elsewhere"),
        ServerState(
            "blocking",
            "faulty, every launch waits",
            _FAULT,
            "illegal-access",
            environment=_BLOCKING,
            graphs=(False,),
            surfaces="at the launch",
        ),
        ServerState(
            "blocking-graph",
            "faulty, every launch waits, and a replay is one launch",
            _FAULT,
            "illegal-access",
            environment=_BLOCKING,
            graphs=(True,),
            surfaces="elsewhere",
        ),
        ServerState("coredump", "faulty, a core dump", _FAULT, "illegal-access", coredump=True, surfaces="elsewhere"),
        ServerState("trap", "faulty, traps on page tables", _FAULT, "illegal-access", traps="page-table"),
        ServerState("healthy", "as released", (), "finished"),
    ),
    load=Load(patches=("xqa-strided-query",), eager_patches=("eager-draft-out-cache-loc",), pair="accepting"),
    launches=("/flashinfer/xqa.py",),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
