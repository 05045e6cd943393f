"""What the log tells of its server: engine, release, model, backends, speculation, sizes, and use before the crash."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.log_words import told
from g4diag.logs.facts import LogFacts
from g4diag.model import Finding, Grade, Incident

# A GPU's name in a log -> its architecture, as `g4diag doctor --gpu` takes it.
_SM = {
    **dict.fromkeys(("H100", "H200", "H800", "H20", "GH200"), "sm90"),
    **dict.fromkeys(("B300", "GB300"), "sm103"),
    **dict.fromkeys(("B200", "GB200"), "sm100"),
    **dict.fromkeys(("A100", "A800"), "sm80"),
    **dict.fromkeys(("L40", "RTX 4090"), "sm89"),
    **dict.fromkeys(("RTX 5090", "RTX PRO 6000"), "sm120"),
}


def analyze(incident: Incident) -> Iterator[Finding]:
    """One line of facts; and one where the engine is another than sglang."""
    if not incident.events:
        return
    facts = told(incident).facts
    said = list(_said(facts))
    if said:
        promoted = {"speculative-algorithm": facts.algorithm.upper()} if facts.promoted else {}
        data = {
            "flags": {**facts.flags, **promoted},
            "engine": facts.engine,
            "release": facts.release,
            "model": facts.model,
            "sm": next((sm for name, sm in _SM.items() if name in facts.gpu), ""),
        }
        yield Finding("log_server", f"the server: {', '.join(said)}", Grade.MEASURED, False, data)
    if facts.engine and facts.engine != "sglang":
        text = (
            f"the log is of {facts.engine}, not of sglang: what it tells is told here; traps and patches are sglang's"
        )
        yield Finding("log_server", text, Grade.MEASURED, False, {"engine": facts.engine})


def _said(facts: LogFacts) -> Iterator[str]:
    if facts.release:
        yield f"{facts.engine} {facts.release}"
    if facts.model:
        yield f"model {facts.model}"
    if facts.gpu:
        yield facts.gpu
    if facts.attention and facts.args_seen:
        yield f"attention {', '.join(facts.attention)}"
    if facts.promoted:
        yield f"speculation promoted from {facts.promoted}"
    elif facts.algorithm:
        yield f"speculation {facts.algorithm}"
    for name in ("topk", "draft_tokens", "page_size", "swa_ratio", "tp", "dp", "ep", "pp"):
        if (value := getattr(facts, name)) is not None:
            yield f"{name.replace('_', ' ')} {value}"
    shares = (("full pool use", facts.full_use), ("SWA use", facts.swa_use), ("accept length", facts.accept))
    told_last = [f"{name} {value:.2f}" for name, value in shares if value is not None]
    if told_last:
        yield f"{', '.join(told_last)} in the last decode line"
    if facts.launch_blocking:
        yield "launches wait (CUDA_LAUNCH_BLOCKING=1)"


ANALYZER = Analyzer("log_server", "What does the log tell of its server?", analyze)
