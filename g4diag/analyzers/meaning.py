"""What an id means in the other index space: whose page it would be, where, and what it should have been; in words.

`meanings` finds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from g4diag.model import Grade, IndexSpace


@dataclass(frozen=True)
class Owner:
    """A request that holds the page. first, last: token positions of the page in it, both included."""

    rid: str
    first: int
    last: int


@dataclass(frozen=True)
class Meaning:
    """`value` read as an id of `space`. other: the same page in the space the layer wanted, None if unmapped or
    unknown. free: whether it is on that space's free list, None if the list was not taken.
    serves: first and last token position that the table entry stands for. is_clamp: the id comes from a clamp.
    beyond: pages of `space`, where the id is past them too. belongs: it is the very page that the entry should hold.
    """

    value: int
    space: IndexSpace
    owner: Owner | None
    is_own: bool
    other: int | None
    free: bool | None
    grade: Grade
    serves: tuple[int, int]
    is_clamp: bool = False
    beyond: int | None = field(default=None, compare=False)
    belongs: bool = field(default=False, compare=False)


# The page space a table's ids may have been taken from by mistake.
OTHER_SPACE = {IndexSpace.SWA_PAGE: IndexSpace.FULL_PAGE, IndexSpace.FULL_PAGE: IndexSpace.SWA_PAGE}


def sentence(meaning: Meaning) -> str:
    """One sentence for a person."""
    if meaning.is_clamp:
        return f"{meaning.value} is the last page of the pool, where the clamp puts every id past the end"
    if meaning.belongs:
        return f"{meaning.value} is the page that belongs there: the pool that is read is too small for it"
    article = "an" if meaning.space in (IndexSpace.SWA_PAGE, IndexSpace.SWA_SLOT) else "a"
    head = f"{meaning.value} as {article} {meaning.space} is "
    wanted = OTHER_SPACE[meaning.space]
    if meaning.beyond is not None:
        return f"{meaning.value} is no {meaning.space} either: that pool has {meaning.beyond} pages"
    if meaning.owner is None:
        state = {True: "on the free list", False: "in use by no request recorded here", None: "of unrecorded owner"}
        head += f"{state[meaning.free]}; the entry serves positions {meaning.serves[0]}..{meaning.serves[1]}"
    else:
        whose = "this request's own page" if meaning.is_own else f"a page of request {meaning.owner.rid}"
        head += f"{whose} for positions {meaning.owner.first}..{meaning.owner.last}"
        head += ", and yet on the free list" if meaning.free else ""
    return head + (f"; its {wanted} is {meaning.other}" if meaning.other is not None else "")
