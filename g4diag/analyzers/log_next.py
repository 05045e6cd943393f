"""What to do next about what a log tells: by whose fault it is, and by which engine wrote it."""

from __future__ import annotations

from g4diag.analyzers.log_words import told
from g4diag.logs.kernels import kernel
from g4diag.logs.xid import hardware
from g4diag.model import Incident, Outcome

_SERVE = "g4diag serve --traps {} -- SGLANG-ARGUMENTS"
_DUMP = "CUDA_ENABLE_COREDUMP_ON_EXCEPTION=1 CUDA_COREDUMP_FILE=core.%p SERVER-COMMAND"
_COUNTS = "nvidia-smi -q -d ECC,ROW_REMAPPER,PAGE_RETIREMENT"

Step = tuple[str, str]


def next_of_log(incident: Incident, outcome: Outcome) -> Step | None:
    """(command, what it is for); None where nothing of ours would tell more."""
    said = told(incident)
    crash = next((c for c in said.crashes if c.blame.how in ("waited", "replay")), next(iter(said.crashes), None))
    if outcome is Outcome.HARDWARE or hardware(said.xids):
        return _COUNTS, "shows the GPU's own counts of errors, before it is taken out"
    if outcome is Outcome.LEAK:
        return (
            ("G4DIAG_LEVEL=strict " + _SERVE.format("allocator"), "names the call that leaks")
            if _ours(incident)
            else None
        )
    if said.courses and said.courses[0].kind != "steady" and crash is None:
        return _SERVE.format("swa-state,page-table"), "names a draft that reads the wrong pages, which no log shows"
    if crash is None:
        return None
    kernels = [kernel(name) for name in (crash.blame.kernel,) if name]
    if any(found.kv is False for found in kernels) or crash.blame.how in ("raised", "allocation"):
        return None
    is_of_device = crash.blame.how in ("waited", "replay", "launch", "trap") or bool(said.xids)
    if not _ours(incident):
        return (
            (_DUMP, "leaves a core dump, which names the kernel; then `g4diag inspect core.*`")
            if is_of_device
            else None
        )
    if kernels:
        return _SERVE.format("all"), "names the table that the kernel was handed"
    if is_of_device:
        return "g4diag serve --coredump --traps all -- SGLANG-ARGUMENTS", "names the kernel that faulted, and its table"
    return "G4DIAG_LEVEL=strict " + _SERVE.format("all"), "a dump of an armed server can be judged, a log cannot"


def _ours(incident: Incident) -> bool:
    """Whether the engine is sglang, or may be."""
    return told(incident).facts.engine in ("sglang", "")
