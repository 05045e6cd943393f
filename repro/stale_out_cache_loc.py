"""A third bug, alive in 0.5.13: the eager frozen draft is handed the write locations of the step before.

`draft()` leaves the batch's `out_cache_loc` on the draft's forward batch, and the runner's eager input copy puts it
into a slot of one entry a drafted token: `RuntimeError: The size of tensor a (16) must match the size of tensor b
(22)`. A verify leaves one location an accepted token, a prefill one a prompt token. It stays hidden as long as the
lengths agree by luck, one token a request, and whenever a merge or a finished request has set it to None: random
weights, which accept nothing, can run for hours. By reading, room for more running requests is no protection.

Run it as released: with one token accepted beside each bonus token, with none (hidden), and with a prompt served
alone; then the cure, and upstream's own switch SGLANG_EAGER_INPUT_NO_COPY. The graph path needs neither.

Issue #28264 is this bug, not a relative: `output with shape [1] doesn't match the broadcast shape [276]` out of
`_eager_fb_view` under `frozen_kv_mtp_worker.draft_forward`, which is the state `alone`. #28817 (closed) would reset the
locations there, and names one more way to it: --speculative-num-steps 1 captures no draft graph.
"""

from __future__ import annotations

import sys

from g4diag.scenario import Load, Options, Outcome, Progress, Scenario, ServerState, State, Where

_CURE = "eager-draft-out-cache-loc"
_RAISES = "raises RuntimeError"
_NO_COPY = {"SGLANG_EAGER_INPUT_NO_COPY": "1"}
_ACCEPTED = {"input_copy": True, "written": 2}
_SRT = "sglang.srt"
_LEFT_AND_COPIED = (
    (f"{_SRT}.speculative.frozen_kv_mtp_worker.FrozenKVMTPWorker.draft", "draft_tokens = self.draft_forward("),
    (f"{_SRT}.model_executor.model_runner.ModelRunner.forward_decode", "forward_batch = self._eager_fb_view("),
)
_ALIVE = (Where(_LEFT_AND_COPIED, _RAISES, "eager"),)
_STATES = (
    State("upstream", "as released, a draft token accepted", (), "equal", "equal", draft=_ACCEPTED, where=_ALIVE),
    State("hidden", "none accepted: equal lengths", (), "equal", "equal", draft=_ACCEPTED | {"written": 1}),
    State("alone", "a first prompt served alone", (), "equal", "equal", draft=_ACCEPTED | {"written": 0}, where=_ALIVE),
    State("cure", "the draft gets no write locations", (_CURE,), "equal", "equal", draft=_ACCEPTED),
    State("cure-alone", "a first prompt served alone", (_CURE,), "equal", "equal", draft=_ACCEPTED | {"written": 0}),
    State("no-copy", "no input copy", (), "equal", "equal", draft=_ACCEPTED, environment=_NO_COPY),
)
_SERVER_STATES = (
    ServerState("alone", "as released, one prompt", (), "size-mismatch", graphs=(False,)),
    ServerState("cure", "the draft gets no write locations", (_CURE,), "finished", graphs=(False,)),
    ServerState("no-copy", "no input copy", (), "finished", environment=_NO_COPY, graphs=(False,)),
    ServerState("graphs", "as released, decode graphs", (), "finished", graphs=(True,)),
)


def run(options: Options, progress: Progress) -> Outcome:
    """Every selected state, each from a fresh server. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.scenario.on_cpu import run_on_cpu

    return run_on_cpu(SCENARIO, options, progress)


SCENARIO = Scenario(
    name="stale-out-cache-loc",
    symptom="RuntimeError: size of tensor a must match tensor b in _eager_fb_view, without decode graphs only",
    upstream="sglang #28264, #28817; cured in 0.5.23; a relative: #29616",
    states=_STATES,
    run=run,
    server_states=_SERVER_STATES,
    load=Load(requests=1, prompt=1000, new_tokens=32),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
