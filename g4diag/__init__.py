"""g4diag: crash triage for SGLang serving Gemma-4 with frozen-KV MTP on trtllm_mha."""

__version__ = "0.1.0"
