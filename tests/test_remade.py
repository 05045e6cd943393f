"""What a view works out is worked out once, and a view that is made of another has what it was given."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from g4diag.model import AttentionRead, IndexSpace, PoolView
from g4diag.model.once import once
from g4diag.model.remade import remade
from tests.samples import healthy_read


@dataclass(frozen=True)
class Line:
    """begins, ends: numbers."""

    begins: int
    ends: int

    @once
    def length(self) -> list[int]:
        """A list, so that two answers can be told apart."""
        return [self.ends - self.begins]


def test_it_is_worked_out_at_the_first_look_and_not_again() -> None:
    line = Line(2, 5)
    assert "length" not in vars(line)
    assert line.length == [3] and line.length is line.length
    assert line == Line(2, 5) and replace(line, ends=9).length == [7]
    assert "told apart" in str(Line.length.__doc__)


def test_a_remade_view_is_the_replaced_one() -> None:
    table_BP, pool = np.array([[1, 2]], dtype=np.int32), PoolView("swa", IndexSpace.SWA_PAGE, 16, 40)
    first = healthy_read(step=0, window_left=-1, pool=pool, page_table_BP=table_BP, seq_lens_B=np.array([20]))
    made, wanted = (how(first, step=3, phase="decode", window_left=15) for how in (remade, replace))
    assert type(made) is AttentionRead and first.step == 0
    for each in fields(AttentionRead):
        assert getattr(made, each.name) is getattr(wanted, each.name), each.name
    assert made.live_BP().tolist() == wanted.live_BP().tolist() == [[True, True]]
    assert remade(first, seq_lens_B=np.array([5])).live_BP().tolist() == [[True, False]]
