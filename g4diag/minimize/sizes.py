"""Between a server's sizes and a point of the search.

Pools and chunks are counted in pages, so that a change of the page size keeps the shape of a case. The SWA pool is a
number of its own in a point, and a ratio of as few digits as will do in the sizes.
"""

from __future__ import annotations

from g4diag.errors import UsageError
from g4diag.minimize.search import Point
from g4diag.model.reduction import Sizes

# In the order they are made smaller: what makes a run short before what makes a pool small.
AXES = (
    "requests",
    "live",
    "steps_per_admission",
    "draft_steps",
    "prompt",
    "window",
    "chunk_pages",
    "swa_pages",
    "full_pages",
)
TOGETHER = (
    ("page_size", "prompt", "window"),
    ("prompt", "window", "chunk_pages", "swa_pages", "full_pages"),
    ("prompt", "swa_pages", "full_pages"),
    ("page_size",),
)
_PLAIN = ("requests", "live", "steps_per_admission", "draft_steps", "prompt", "window", "page_size")
_DIGITS = 6


def point_of(sizes: Sizes) -> Point:
    """The point of these sizes; `sizes_of` it serves the same."""
    page, full = int(sizes["page_size"]), int(sizes["full_tokens"])
    point = {name: int(sizes[name]) for name in _PLAIN}
    swa_pages = int(full * sizes["ratio"]) // page
    return point | {"chunk_pages": int(sizes["chunk"]) // page, "swa_pages": swa_pages, "full_pages": full // page}


def sizes_of(point: Point) -> Sizes:
    """Keywords of `Geometry`, in the order of a table."""
    page = point["page_size"]
    pools = {"full_tokens": point["full_pages"] * page, "ratio": _ratio(point["swa_pages"], point["full_pages"], page)}
    sizes = {name: point[name] for name in _PLAIN} | {"chunk": point["chunk_pages"] * page} | pools
    order = ("requests", "live", "prompt", "chunk", "window", "page_size", "full_tokens", "ratio")
    return {name: sizes[name] for name in (*order, "steps_per_admission", "draft_steps")}


def is_legal(point: Point) -> bool:
    """Whether a server can have these sizes. Besides what `Geometry.check` says: prompts are up to two pages shorter
    than named, and an SWA pool is no larger than the full one."""
    from g4diag.stack.drive.serving import Geometry

    if point["prompt"] <= 2 * point["page_size"] or point["swa_pages"] > point["full_pages"]:
        return False
    try:
        Geometry(**sizes_of(point)).check()  # type: ignore[arg-type]
    except UsageError:
        return False
    return True


def _ratio(swa_pages: int, full_pages: int, page: int) -> float:
    """The shortest ratio that gives this many SWA pages."""
    full = full_pages * page
    for digits in range(1, _DIGITS):
        scale: int = 10**digits
        ratio = -(-swa_pages * scale // full_pages) / scale
        if ratio <= 1 and int(full * ratio) // page == swa_pages:
            return ratio
    return swa_pages / full_pages
