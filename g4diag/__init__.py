"""g4diag: crash triage for SGLang serving Gemma-4 with frozen-KV MTP on trtllm_mha."""

import sys

__version__ = "0.1.0"

if (sys.argv or [""])[0].endswith(("-m", "/g4diag", "/g4diag/__main__.py")):
    # As a command, before anything else is imported: what lies in the current folder may be evidence.
    from g4diag.isolated import clean_path

    clean_path()
