"""One reading of a page table: what it says that the ids are, and how many live entries it accounts for.

L: live entries of one read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from g4diag.model import AttentionRead, BoolArray, IntArray


@dataclass(frozen=True)
class Explanation:
    """One reading of a table. explained: live entries it accounts for, of `of`; bad: the bad ones among them, of
    `of_bad`. exact: it predicts their ids. because: what else speaks for it, "" if nothing does."""

    name: str
    text: str
    explained: int
    of: int
    bad: int
    of_bad: int
    exact: bool = True
    because: str = ""
    telling: int | None = None

    @property
    def share(self) -> float:
        """Of the live entries, 0..1."""
        return self.explained / self.of if self.of else 0.0

    @property
    def share_of_bad(self) -> float:
        """Of the bad entries, 0..1: right ones agree with several readings and tell none apart."""
        return self.bad / self.of_bad if self.of_bad else 0.0


@dataclass(frozen=True)
class Live:
    """One read's live entries. expected_L, full_L: what belongs there, and its full page; None if not known."""

    read: AttentionRead
    row_L: IntArray
    column_L: IntArray
    id_L: IntArray
    bad_L: BoolArray
    expected_L: IntArray | None
    full_L: IntArray | None

    def reading(
        self, name: str, text: str, explained_L: BoolArray, *, exact: bool = True, because: str = ""
    ) -> Explanation:
        """An explanation from the mask of the entries it accounts for."""
        of, bad = len(explained_L), int((explained_L & self.bad_L).sum())
        return Explanation(name, text, int(explained_L.sum()), of, bad, int(self.bad_L.sum()), exact, because)

    def predicts(self, name: str, text: str, id_L: IntArray) -> Explanation:
        """An explanation from the id that it predicts for each entry."""
        explained_L = self.id_L == id_L
        telling = None if self.expected_L is None else int((explained_L & (id_L != self.expected_L)).sum())
        return replace(self.reading(name, text, explained_L), telling=telling)
