"""The frozen-KV SWA bug (sglang #26957) put back: trtllm_mha asks the runner's own pool only.

Symptom: on a frozen-KV (Gemma-4 assistant) draft the sliding layers are handed page tables in full-space ids. In
range but wrong first (accept length falls, nothing logged), then past the smaller SWA pool: illegal memory access.
Cause: the draft runner owns a plain 64-token pool and reads the target's KV through a pool swap, so its own pool
says nothing of the pool it reads. The backend concludes "no SWA here" and builds no SWA table.
Introduced by sglang #25103 on 2026-05-15, which rightly cured EAGLE drafts of the allocator rule (#18970).
Ended by #26966 on 2026-06-02, which went back to the allocator, and settled by #27491 on 2026-06-08 with a rule
that looks at both sides. No PyPI release has it: 0.5.12 is from before, 0.5.13 from after. Source builds of those
two weeks have.
"""

from __future__ import annotations

from types import SimpleNamespace

from g4diag.errors import PatchRefused
from g4diag.hooks.install import Hook
from g4diag.patches.backend_rule import CALLED_ONCE, TWO_SIDED, rule_hook
from g4diag.patches.contract import Patch


def hooks() -> tuple[Hook, ...]:
    """One replacement of the resolver."""
    return (rule_hook(lambda model_runner: model_runner.token_to_kv_pool),)


def verify() -> None:
    """The rule in force must not look past the runner's own pool."""
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend

    try:
        # A runner that has nothing else: any other rule trips over what is missing.
        TRTLLMHAAttnBackend._resolve_swa_kv_pool(SimpleNamespace(token_to_kv_pool=None))  # type: ignore[arg-type,unused-ignore]
    except AttributeError as error:
        raise PatchRefused(PATCH.name, "a rule that asks the runner's own pool only", str(error)) from error


PATCH = Patch(
    name="faulty-rule",
    kind="fault",
    why="Sliding layers of a frozen-KV draft are handed full-space page ids: wrong K/V, then illegal access.",
    how="Replaces TRTLLMHAAttnBackend._resolve_swa_kv_pool by the rule of #25103: the runner's own pool only.",
    upstream="sgl-project/sglang#25103 (introduced 2026-05-15), #26966 and #27491 (cured 2026-06-02, 2026-06-08)",
    releases=">=0.5.13",
    anchors=(CALLED_ONCE, TWO_SIDED),
    hooks=hooks,
    verify=verify,
    remove_when="Never: it is the exhibit. Move the anchors when the resolver moves.",
)
