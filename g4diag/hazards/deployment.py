"""A server about to be started, as a value: its flags, the models they name, the GPU, the sglang that will run.

Only what can be read without importing sglang or asking the network; what cannot be told is None, and a hazard
that needs it is silent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from packaging.specifiers import SpecifierSet

ASSISTANTS = ("Gemma4AssistantForCausalLM", "Gemma4UnifiedAssistantForCausalLM")
GEMMA4 = ("Gemma4ForConditionalGeneration", "Gemma4ForCausalLM", "Gemma4UnifiedForConditionalGeneration")
_GEMMA4_NAME = re.compile(r"gemma[-_]?4(?!\d)", re.IGNORECASE)


_WITH_A_MODEL = frozenset({"EAGLE", "EAGLE3", "FROZEN_KV_MTP", "NEXTN", "STANDALONE"})


@dataclass(frozen=True)
class Deployment:
    """sglang: its release. flags: as `command_line.parse` gives them. target, draft: the models' config.json, None
    where it is not on this machine. capability: (9, 0) and the like, None without a GPU."""

    sglang: str
    flags: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    target: Mapping[str, Any] | None = None
    draft: Mapping[str, Any] | None = None
    capability: tuple[int, int] | None = None

    def is_in(self, releases: str) -> bool:
        """Whether the sglang that will run is in a PEP 440 range."""
        return SpecifierSet(releases).contains(self.sglang, prereleases=True)

    def flag(self, *names: str) -> str | None:
        """The first of these flags that was given; "" for a switch."""
        return next((self.flags[name] for name in names if name in self.flags), None)

    def number(self, name: str) -> float | None:
        """A flag's value as a number, None if absent or not one."""
        try:
            return float(self.flags[name])
        except (KeyError, ValueError):
            return None

    @property
    def xqa_arch(self) -> str:
        """As "sm90" where FlashInfer's XQA runs trtllm_mha decode; "" elsewhere, and where the GPU is not told."""
        has_it = self.capability is not None and self.capability[0] in (9, 12)
        return "sm{}{}".format(*self.capability or ()) if has_it else ""

    @property
    def verifies_on_decode(self) -> bool:
        """Whether drafts are verified by the decode backend; by default the prefill backend does it."""
        speculative = self.flag("speculative-algorithm") is not None
        return speculative and self.flag("speculative-attention-mode") == "decode"

    @property
    def is_gemma4(self) -> bool | None:
        """Whether the target is a Gemma-4."""
        return _is_one_of(self.target, GEMMA4)

    @property
    def lacks_draft(self) -> bool:
        """Whether the algorithm drafts with a model, and none is named."""
        algorithm = (self.flag("speculative-algorithm") or "").upper()
        return algorithm in _WITH_A_MODEL and not self.flag("speculative-draft-model-path")

    @property
    def frozen_kv(self) -> bool | None:
        """Whether the draft reads the target's KV: NEXTN or EAGLE with a Gemma-4 assistant draft."""
        algorithm = (self.flag("speculative-algorithm") or "").upper()
        if algorithm == "FROZEN_KV_MTP":
            return True
        if algorithm not in ("NEXTN", "EAGLE") or not self.flag("speculative-draft-model-path"):
            return False
        return _is_one_of(self.draft, ASSISTANTS)

    def as_named(self) -> Deployment | None:
        """The same with models taken for what their names say, where no config.json tells; None if that adds nothing.
        Only that a target is a Gemma-4 and a draft its assistant is taken from a name."""
        target = self.target or _named(self.flag("model-path", "model"), GEMMA4)
        draft = self.draft or _named(self.flag("speculative-draft-model-path"), ASSISTANTS)
        return None if (target, draft) == (self.target, self.draft) else replace(self, target=target, draft=draft)

    @property
    def is_moe(self) -> bool | None:
        """Whether the target has experts."""
        text = self.text_config
        return None if text is None else bool(text.get("enable_moe_block") or (text.get("num_experts") or 0) > 0)

    @property
    def text_config(self) -> Mapping[str, Any] | None:
        """The target's text model, None if it is not known."""
        return None if self.target is None else self.target.get("text_config") or self.target

    @property
    def draft_backends(self) -> tuple[str | None, ...]:
        """Where a draft runs: on the backend named for it, or on the target's."""
        named = self.flag("speculative-draft-attention-backend")
        return (named,) if named else self.backends

    @property
    def backends(self) -> tuple[str | None, str | None]:
        """(prefill, decode) attention backend of the target; None where sglang's choice cannot be told."""
        both = self.flag("attention-backend") or self._default_backend()
        return self.flag("prefill-attention-backend") or both, self.flag("decode-attention-backend") or both

    @property
    def verifies_on_xqa(self) -> bool:
        """Whether XQA verifies drafts: trtllm_mha as the decode backend where verify is sent there, else as the prefill
        backend, which it can be there since 0.5.19."""
        prefill, decode = self.backends
        if self.flag("speculative-algorithm") is None or not self.xqa_arch:
            return False
        if self.verifies_on_decode:
            return decode == "trtllm_mha"
        return prefill == "trtllm_mha" and self.is_in(">=0.5.19")

    def _default_backend(self) -> str | None:
        """As ServerArgs does for Gemma-4: trtllm_mha on SM100, else triton; before 0.5.13 triton. 0.5.13 makes an
        exception of one quantization of a MoE, which is not told apart here."""
        if not self.is_gemma4 or self.capability is None:
            return None
        if self.capability[0] != 10 or self.is_in("<0.5.13"):
            return "triton"
        config = self.target or {}
        quantized = self.flag("quantization") or config.get("quantization_config") or self.flag("modelopt-quant")
        return None if quantized and self.is_moe and self.is_in("<0.5.14") else "trtllm_mha"


def _named(path: str | None, architectures: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The least of a config.json that the name of a model stands for."""
    return {"architectures": [architectures[0]]} if path and _GEMMA4_NAME.search(path) else None


def _is_one_of(config: Mapping[str, Any] | None, architectures: tuple[str, ...]) -> bool | None:
    return None if config is None else any(name in architectures for name in config.get("architectures") or ())
