"""Values of keys, tokens and passwords are hidden wherever a flag or a log line may carry them; nothing else is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from g4diag.dump import postmortem
from g4diag.dump.postmortem import PostMortem
from g4diag.dump.secrets import known_values, masked, masker
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
        f"WANDB_API_KEY={SECRET}",
        f"DB_PASSWORD='{SECRET} with blanks'",
        f'password="{SECRET} two words"',
        f"Authorization: {SECRET}",
        f"('Authorization', 'Bearer {SECRET}')",
        f"(b'x-api-key', b'{SECRET}')",
        f"http://me:p@{SECRET}@host/x",
        f"me:{SECRET}@host.example:80",
        f"?token={SECRET}&x=1",
        f'{{\\"api_key\\": \\"{SECRET}\\"}}',
        f"environ({{'AWS_SECRET_ACCESS_KEY': '{SECRET}'}})",
        f"Cookie: session={SECRET}; a=b",
        f"-H 'Authorization: token {SECRET}'",
        f"auth=('user', '{SECRET}')",
        f"client_secret={SECRET}",
        f"--ssl-keyfile-password '{SECRET}'",
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
        "eos_token_id=2 pad_token=0 special_tokens_map: {}",
        "#token: 12, token usage: 0.85, gen throughput (token/s): 12.3, #queue-req: 3",
        "monkey: x, foo@bar.com wrote, 2026-05-05T02:22:14.000@x",
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


def test_what_a_server_was_given_is_hidden_wherever_it_stands() -> None:
    given = known_values(["--api-key", "plain-word", "--tp", "2", "--hf-token=other-word"], {"MY_TOKEN": "third-word"})
    assert given == {"plain-word", "other-word", "third-word"}
    hide = masker(given)
    assert hide("started with plain-word, other-word and third-word") == "started with ***, *** and ***"
    assert masker()("nothing given") == "nothing given"


@pytest.mark.parametrize(
    "sign", ["\n", " ", "a", '"', "'", "\\", "=", ":", "@", "token=", "A_KEY", "('", "://", "--api-key "]
)
def test_a_hostile_line_costs_no_more_than_its_length(sign: str) -> None:
    def cost(length: int) -> float:
        text = sign * (length // len(sign))
        return min(_seconds(lambda: masked(text)) for _ in range(3))

    assert cost(80_000) < 16 * max(cost(20_000), 0.002)


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
