"""The mirror of the frozen-KV SWA bug: an EAGLE draft's tables are translated to SWA ids, which its own pool has not.

PR: sglang #25103 (2026-05-15, merged). An EAGLE draft shares the target's SWA allocator and keeps K/V of its own, in a
pool that is full throughout. The rule of #18970 asked the allocator, found an SWAKVPool, and translated the draft's
tables. SWA ids are smaller than full ones, so they all lie inside the draft's pool: nothing faults, the draft reads
other requests' K/V, and the accept length falls. #25103 cured that and broke frozen-KV drafts (`trtllm_mha_swa`),
#26966 put the rule back, #27491 tells the two apart. 0.5.12 and 0.5.12.post1 have it.

Run the requests of `trtllm_mha_swa` with such a draft under the released rule, the allocator's, and the one that asks
the runner's own pool; then the draft that reads the target's pool and must be translated, under the released rule and
the allocator's, which is right for it: that is how this bug came back.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from g4diag.scenario import Options, Outcome, Progress, Scenario, State, Where

_OLD = ("allocator-rule",)
_BACKENDS = "sglang.srt.layers.attention"
# Where writes too follow the rule, a draft of its own pool that is taken for a hybrid one dies in its first prefill.
_TRANSLATES_WRITES = (
    (f"{_BACKENDS}.flashinfer_backend", "self.use_sliding_window_kv_pool = self._swa_kv_pool is not None"),
    (
        f"{_BACKENDS}.trtllm_mha_backend.TRTLLMHAAttnBackend.init_forward_metadata",
        "self.token_to_kv_pool.translate_loc_from_full_to_swa(",
    ),
)
_DIES = (Where(_TRANSLATES_WRITES, "raises AttributeError"),)
# To the mechanism the twin is the draft with a pool of its own. Here that one has the bug, and the other is the twin.
_STATES = (
    State("upstream", "as released (#27491)", (), "equal", "equal", twin=True),
    State("allocator", "the rule of #18970 put back", _OLD, "wrong", "wrong", twin=True, where=_DIES),
    State("own-pool-rule", "the rule of #25103: right here", ("faulty-rule",), "equal", "equal", twin=True),
    State("frozen-upstream", "frozen-KV draft, as released", (), "equal", "equal"),
    State("frozen-allocator", "frozen-KV draft, rule of #18970", _OLD, "equal", "equal"),
)


def run(options: Options, progress: Progress) -> Outcome:
    """Every selected state, each from a fresh server. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.scenario.on_cpu import run_on_cpu

    outcome = run_on_cpu(SCENARIO, options, progress, dumped="allocator")
    return replace(outcome, readings=tuple(replace(reading, twin=not reading.twin) for reading in outcome.readings))


SCENARIO = Scenario(
    name="eagle-own-pool",
    symptom="accept length of an EAGLE draft on a hybrid SWA model falls under load; no crash, no log line",
    upstream="sglang #25103 (merged 2026-05-15); brought in by #18970, again by #26966; cured by #27491",
    states=_STATES,
    run=run,
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
