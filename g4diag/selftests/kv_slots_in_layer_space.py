"""A sliding layer's K/V is written to the slot that has the number of the token's full slot."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft, write_last_token


def _drive(broken: bool) -> None:
    write_last_token(frozen_draft(apart=1).serving, untranslated=broken)


SELFTEST = Break(
    name="kv_slots_in_layer_space",
    how="A sliding layer's K/V is written to the token's full slot, which is another token's SWA slot.",
    drive=_drive,
)
