"""The mirror bug put back: trtllm_mha asks the shared allocator, whoever the runner is.

Symptom: an EAGLE draft, which owns a full-only pool but shares the target's SWA allocator, has its page tables
translated into SWA ids that its pool knows nothing of. In range mostly, so only accept length drops.
Cause: the allocator says what the target's pool is; a draft with a pool of its own does not read that pool.
From sglang #18970 (2026-02-21) until #25103 (2026-05-15), so 0.5.12 and 0.5.12.post1 have it; again from #26966
(2026-06-02, issue #26957) until #27491 (2026-06-08). It happens to be right for frozen-KV drafts, which do read the
target's pool: that is why curing one side kept breaking the other.
"""

from __future__ import annotations

from types import SimpleNamespace

from g4diag.errors import PatchRefused
from g4diag.hooks.install import Hook
from g4diag.patches.backend_rule import CALLED_ONCE, TWO_SIDED, rule_hook
from g4diag.patches.contract import Patch


def hooks() -> tuple[Hook, ...]:
    """One replacement of the resolver."""
    return (rule_hook(lambda model_runner: model_runner.token_to_kv_pool_allocator.get_kvcache()),)


def verify() -> None:
    """The rule in force must need nothing but the allocator."""
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend

    allocator = SimpleNamespace(get_kvcache=lambda: None)
    try:
        TRTLLMHAAttnBackend._resolve_swa_kv_pool(SimpleNamespace(token_to_kv_pool_allocator=allocator))  # type: ignore[arg-type,unused-ignore]
    except AttributeError as error:
        raise PatchRefused(PATCH.name, "a rule that asks the allocator only", str(error)) from error


PATCH = Patch(
    name="allocator-rule",
    kind="fault",
    why="A draft with its own full-only pool has its page tables translated into SWA ids: accept length drops.",
    how="Replaces TRTLLMHAAttnBackend._resolve_swa_kv_pool by the older rule: the allocator's KV cache, always.",
    upstream="sgl-project/sglang#18970 (2026-02-21) and #26966 (2026-06-02); cured by #25103 and #27491",
    releases=">=0.5.13",
    anchors=(CALLED_ONCE, TWO_SIDED),
    hooks=hooks,
    verify=verify,
    remove_when="Never: it is the twin of the exhibit. Move the anchors when the resolver moves.",
)
