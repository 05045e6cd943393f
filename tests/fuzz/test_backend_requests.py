"""The backend machine's requests leave as sglang's do."""

from __future__ import annotations

import pytest

from g4diag.fuzz.replay import replaying
from g4diag.stack.drive import attention_backends


@pytest.mark.skipif("triton" not in attention_backends.drivable(), reason="no triton attention here")
def test_a_request_whose_first_tokens_left_the_window_leaves_with_pages_of_one_token() -> None:
    """Found by CI's fuzzing: its slots without an SWA half are freed apart, or 0.5.23 frees the dummy slot."""
    with replaying("attention-backends") as state:
        state.start(
            page_size=16,
            pages=(2, 2),
            window=1,
            context_pages=1,
            short_of=0,
            drafts=2,
            others=0,
            wrapped=False,
            verify_in="prefill",
            attention="triton",
            topk=2,
        )
        state.admit(lengths=[3])
        state.slide()
        assert state.model.requests[1].evicted
        state.finish(picked=[1])
        assert not state.held
