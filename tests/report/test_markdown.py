"""The text of an issue: its headings, what is known and what is asked for, and evidence that links nothing."""

from __future__ import annotations

import io
import re

from hypothesis import given, settings

from g4diag.analyzers import inspect_incident
from g4diag.dump.server_log import read_log
from g4diag.matrix.cells import matrix
from g4diag.matrix.words import affected_releases
from g4diag.model import Finding, Grade, Incident, Inspection, Outcome
from g4diag.report.markdown import code, prose, render
from tests import samples, strategies

HOSTILE = "@all #1 see https://evil.example ``` |\n## x <img src=x onerror=y> \u202e `tick`"
HEADINGS = ["### Describe the bug", "### Reproduction", "### Environment"]


def rendered(**changes: object) -> str:
    return render(inspect_incident(samples.incident(samples.faulty_read(), **changes), "x.pt"))


def outside_code(text: str) -> str:
    """What a forge would look for names, numbers and links in."""
    without = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", re.sub(r"<!-- .*?-->", "\0", without))


def test_the_templates_headings_in_order() -> None:
    assert [line for line in rendered().splitlines() if line.startswith("#")] == HEADINGS


def test_what_the_file_knows_is_filled_in() -> None:
    text = rendered(context={"scenario": "trtllm-mha-swa", "state": "faulty", "seed": 7})
    for said in (
        "ERROR: g4diag: page_table_stays_in_pool: ",
        "nearest meaning: 188",
        "| 0 | 60 | 188 | 35 | 100 |",
        "g4diag repro trtllm-mha-swa --state faulty --seed 7",
        "sglang: 0.5.13",
        "put back on purpose when this was recorded: `faulty-rule`",
        f"Affected releases: {affected_releases(matrix(), 'trtllm-mha-swa')}\n",
        "Signature: `g4d1:page_table_stays_in_pool:swa-page:swa:trtllm_mha:draft_decode`",
        "sgl-project/sglang#27491",
        "python3 -m sglang.check_env",
    ):
        assert said in text, said


def test_the_error_of_a_log_is_filled_in_masked() -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "/x/sampler.py", line 123, in forward',
        "    torch.softmax()",
    )
    error = "RuntimeError: CUDA error: an illegal memory access was encountered, --api-key sesame"
    log = read_log(io.BytesIO("\n".join((*lines, error, "a prompt", "")).encode()), 9, "server.log")
    assert log is not None
    text = render(inspect_incident(log, "server.log"))
    assert 'server.log:2: File "/x/sampler.py", line 123, in forward\nserver.log:4: RuntimeError: CUDA error: ' in text
    assert "sesame" not in text and "a prompt" not in text and "softmax" not in text
    assert "What the log says" not in rendered()


def test_what_the_file_does_not_know_is_asked_for_and_not_invented() -> None:
    text = rendered(context={}, versions={}, manifest={})
    assert "please add: the server's command line" in text and "--state" not in text
    assert "holds no versions" in text and "on purpose" not in text and "how it came about" in text


def test_a_command_to_paste_is_never_evidence() -> None:
    text = rendered(context={"scenario": "x; rm -rf ~", "state": "$(id)"})
    assert "g4diag repro x" not in text and "- scenario: `x; rm -rf ~`" in text


def test_evidence_links_nothing_and_ends_no_code() -> None:
    read = samples.faulty_read(backend=HOSTILE, path=HOSTILE, rids=(HOSTILE,))
    incident = samples.incident(read, origin=HOSTILE, versions={HOSTILE: HOSTILE}, context={"scenario": HOSTILE})
    inspection = inspect_incident(incident, HOSTILE)
    issue = Finding("known_issues", HOSTILE, Grade.GUESS, False, {"title": HOSTILE, "references": [HOSTILE]})
    text = render(Inspection(HOSTILE, HOSTILE, Outcome.ERROR, (*inspection.findings, issue), (inspection,)))
    assert [line for line in text.splitlines() if line.startswith("#")] == HEADINGS
    bare = outside_code(text)
    assert "\u202e" not in text
    assert not re.search(r"@all|#1\b|://|(?<!\\)<(?!!--)", bare)


def test_log_lines_are_left_out() -> None:
    said = "the prompt was: my secret"
    notes = ((Grade.MEASURED, said),)
    assert said not in rendered(notes=notes, context={"log_tail": [said]})


def test_code_and_prose() -> None:
    assert (code("a`b"), code("`"), code("a|b"), code("")) == ("``a`b``", "`` ` ``", "`a\\|b`", "`  `")
    assert prose("use `a_b` not a_b, #3") == "use `a_b` not a\\_b, #<!-- -->3"


@settings(max_examples=30, deadline=None)
@given(strategies.incidents)
def test_any_incident_renders(incident: Incident) -> None:
    inspection = inspect_incident(incident, "x")
    text = render(inspection)
    assert text == render(inspection) and text.endswith("\n")
    assert [line for line in text.splitlines() if line.startswith("### ")] == HEADINGS
