"""Keep what users wrote out of what is kept of a log: prompts, request bodies, quoted input.

A line that shows a request is no event, whatever it quotes. Of other lines long quotations are cut out: an error may
repeat its input.
"""

from __future__ import annotations

import re

TEXT = 400
_REQUEST = re.compile(
    r"(?:Receive|Finish|Received|Processing|Added|Aborted|Sending|Input|Output|Prompt|User|Request|Response)\b.{0,80}?"
    r"(?:\bobj=|\bprompt\b|\brequest\b|\btext=|\bmessages\b|\bbody\b)"
    r"|(?:Tokenized)?(?:GenerateReqInput|EmbeddingReqInput|ChatCompletionRequest|CompletionRequest|ResponsesRequest)\("
    r"|[\"'](?:messages|prompt|input_text|content)[\"']: ?[\[\"'{]"
)
# What such a line holds, for a first look.
SIGNS = ("obj=", "prompt", "Received", "Request", "messages[\\\"']", "ReqInput")
_LOOKED_AT = 4000
_KEYED = re.compile(
    r"\b(text|prompt|input|inputs|content|messages|input_value|input_ids|output_text|query|body|input_text)"
    r"([\"']?\s{0,3}[=:]\s{0,3})(?=[\"'\[{])"
)
_QUOTED = re.compile(r"'[^'\n]{48,}'|\"[^\"\n]{48,}\"")
_DROPPED = "[left out]"


def shows_request(text: str) -> bool:
    """Whether a line logs a request or an answer."""
    return _REQUEST.search(text[:_LOOKED_AT]) is not None


def is_unfinished(text: str) -> bool:
    """Whether what such a line quotes goes on below it."""
    return not text.rstrip().endswith((")", "}", "]", "...", "."))


def plain(text: str, most: int = TEXT) -> str:
    """One line, printable, cut, without what its users wrote."""
    shown = text[: most * 4].strip()
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else " " for char in shown)
    if found := _KEYED.search(shown):
        shown = shown[: found.end()] + _DROPPED
    return _QUOTED.sub(f"'{_DROPPED}'", shown)[:most]
