"""Values of keys, tokens and passwords are hidden wherever a flag or a log line may carry them; nothing else is."""

from __future__ import annotations

import json

import pytest

from g4diag.dump import postmortem
from g4diag.dump.postmortem import PostMortem
from g4diag.dump.secrets import masked
from g4diag.dump.server_log import events_of
from g4diag.model import Grade

SECRET = "s3cr3t-value"


@pytest.mark.parametrize(
    "text",
    [
        f"--api-key {SECRET}",
        f"--admin-api-key={SECRET}",
        f"['--api-key', '{SECRET}']",
        f"ServerArgs(api_key='{SECRET}', admin_api_key=None)",
        f"HF_TOKEN={SECRET}",
        f'"hf_token": "{SECRET}"',
        f"Authorization: Bearer {SECRET}",
        f"http://me:{SECRET}@proxy.example/v1",
        f"ssl_keyfile_password={SECRET}",
        "loaded hf_abcdefghijklmnopqrst",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    assert SECRET not in masked(text) and "hf_abc" not in masked(text) and "***" in masked(text)
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "Retract requests. #retracted_reqs: 2, #new_tokens_gained: 9",
        "max_total_num_tokens=200064, api_key=None",
        "--tokenizer-path x --swa-full-tokens-ratio 0.15",
        "g4diag violation trap=page_table_stays_in_pool layer=4 row=7 value=502 bound=469",
    ],
)
def test_all_else_stays(text: str) -> None:
    assert masked(text) == text


def test_neither_a_log_nor_a_post_mortem_shows_one() -> None:
    line = f"RuntimeError: ServerArgs(api_key='{SECRET}')"
    assert SECRET not in repr(events_of([line], "x"))
    flags = ("page-size", f"api-key={SECRET}", "")
    written = PostMortem("x", line, Grade.GUESS, 1, flags=flags, log_tail=(line,))
    document = {"schema": postmortem.SCHEMA, "version": postmortem.VERSION} | postmortem._POSTMORTEM.pack(written)
    incident = postmortem.incident_of(postmortem.parse(json.dumps(document).encode()))
    assert SECRET not in repr(incident) and incident.context["flags"] == ["page-size", "api-key=***"]
