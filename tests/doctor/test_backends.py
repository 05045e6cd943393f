"""What doctor says of a backend is what the hazards would refuse, release by release."""

from __future__ import annotations

import pytest

from g4diag.doctor import backends
from g4diag.doctor.backends import attention_backends
from tests.contracts import wheels

H100, B200, A100 = (9, 0), (10, 0), (8, 0)


def rows(release: str, capability: tuple[int, int] | None) -> dict[str, tuple[bool | None, bool | None]]:
    return {row.name: (row.prefill, row.decode) for row in attention_backends(release, capability)}


@pytest.mark.parametrize("release", wheels.RELEASES)
def test_trtllm_mha_prefills_on_hopper_since_0519(release: str) -> None:
    since = wheels.RELEASES.index(release) >= wheels.RELEASES.index("0.5.19")
    assert rows(release, H100)["trtllm_mha"] == rows(release, (12, 0))["trtllm_mha"] == (since, True)
    assert rows(release, B200)["trtllm_mha"] == (True, True)
    assert rows(release, A100)["trtllm_mha"] == (False, False)
    assert rows(release, A100)["triton"] == (True, True)
    assert set(rows(release, None).values()) == {(None, None)}


def test_fa4_is_told_where_a_release_takes_it() -> None:
    assert "fa4" not in rows("0.5.13", H100) and "fa4" not in rows("0.5.21", H100)
    assert rows("0.5.23", H100)["fa4"] == (True, True)
    assert rows("0.5.22", H100)["fa4"] == rows("0.5.23", B200)["fa4"] == (None, None), "not run there"


@pytest.mark.parametrize(("release", "heads"), [("0.5.13", 256), ("0.5.18", 256), ("0.5.19", 512), ("0.5.23", 512)])
def test_the_widest_heads_are_told_where_xqa_decodes(release: str, heads: int) -> None:
    why = next(row.why for row in attention_backends(release, H100))
    assert f"heads of at most {heads}" in why
    assert "XQA" not in next(row.why for row in attention_backends(release, B200))


def test_flags_that_choose_a_backend_without_a_file_are_said() -> None:
    ours = {"attention-backend": "fa4", "decode-attention-backend": "triton", "page-size": "64"}
    assert backends.unwatched(ours) == ()
    (line,) = backends.unwatched(ours | {"speculative-draft-attention-backend": "aiter"})
    assert line.startswith("--speculative-draft-attention-backend aiter: NOT WATCHED")
