"""A ratio of SWA to full tokens meant for a MoE, on a dense model: requests are retracted all the time, and no error.

Seed: on the dense 31B its ratio of 0.15 gave 478 720 full and 71 808 SWA tokens and the server starved; 0.8 gave
132 992 and 106 368. The reason is in the admission. `PrefillAdder` sets aside what a running request has still to
generate in the full pool only; of the SWA pool it asks for what the prefill needs. With 0.8 the pools are of about one
size, and the full one stops admission in time. With 0.15 it is far too large for that: prompts shorter than the window
are let in until the SWA pool is full, grow past it, and are retracted to make room for each other. Each comes back
later and is prefilled again, while everyone waits. The server logs retractions and reports no memory error.

The pool sizes of the fork pyc96/sglang, its window, page, prompts and answers, all divided by 64; then the real
scheduler policy, batch, cache and allocator serve 96 requests. Counted: requests retracted, and tokens computed again
for them: 198 and 5091, of 6144 that were asked for. Not counted: time, as no model is run. The twin has the pools of
the MoE 26B at 0.15, which are what the ratio is for.
"""

from __future__ import annotations

import sys

from g4diag.scenario import Drive, Found
from g4diag.scenario.driving import driven


def drive(*, full: int, ratio: float) -> Found:
    """full: tokens of the full pool. Damaged: requests retracted, counted each time."""
    from g4diag.stack.drive.starving import serve_all

    served = serve_all(full=full, ratio=ratio)
    return Found(
        checked=served.steps,
        damaged=served.retracted,
        evidence={"request finished": served.finished, "two requests at once": served.most - 1},
        called="starves",
        says=f"{served.finished} requests in {served.steps} steps, at most {served.most} at once; {served.retracted} "
        f"retracted, {served.again} tokens computed again; full pool at most {served.full_use:.0%} in use, "
        f"SWA {served.swa_use:.0%}",
    )


SCENARIO = driven(
    drive,
    name="swa-ratio-starvation",
    symptom="KV cache pool is full, retract requests, over and over, with most of the full pool free; no error",
    upstream="the fork pyc96/sglang, 31B on a B200; no thread found. `g4diag doctor` names it swa-ratio-dense",
    drives=(
        Drive("small-ratio", "dense 31B, 0.15", expected="starves", arguments={"full": 7480, "ratio": 0.15}),
        Drive("default-ratio", "dense 31B, 0.8", arguments={"full": 2078, "ratio": 0.8}),
        Drive("moe", "MoE 26B, 0.15", twin=True, arguments={"full": 33410, "ratio": 0.15}),
    ),
    without_model=True,
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
