"""The pools: how large, how full, and how far the two index spaces have drifted apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.tables import mapping_of
from g4diag.model import Finding, Grade, Incident, IndexMapping, PoolView


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a pool, then the divergence of the mapping where there is one."""
    for pool in _pools(incident):
        use = None if pool.use is None else round(pool.use, 4)
        filled = f", {use:.0%} in use" if use is not None else ""
        size = f"{pool.page_size} token{'s' if pool.page_size > 1 else ''}"
        text = f"{pool.name}: {pool.num_pages} pages of {size}, page 0 the dummy{filled}"
        data = {"name": pool.name, "space": str(pool.space), "page_size": pool.page_size, "num_pages": pool.num_pages}
        data |= {"use": use, "dummy": 0}
        yield Finding("pools", text, Grade.MEASURED, False, data, "pool")
    if (found := mapping_of(incident)) and found[0].is_whole:
        mapped, moved = divergence(found[0])
        text = f"{moved} of {mapped} mapped full {found[1]}s have another number in SWA space"
        data = {"mapped_pages": mapped, "divergent_pages": moved, "unit": found[1]}
        yield Finding("pools", text, Grade.MEASURED, False, data, "divergence")


def _pools(incident: Incident) -> list[PoolView]:
    """The incident's pools, then those that only a view names; one row for each name and geometry."""
    of_views = [read.pool for read in incident.reads] + [allocation.pool for allocation in incident.allocations]
    rows: dict[tuple[str, str, int, int], PoolView] = {}
    for pool in (*incident.pools, *(pool for pool in of_views if pool.space.unit == "page" or not incident.pools)):
        rows.setdefault((pool.name, str(pool.space), pool.page_size, pool.num_pages), pool)
    return list(rows.values())


def divergence(mapping: IndexMapping) -> tuple[int, int]:
    """(mapped full pages, those of them whose SWA page has another number). Page 0, the dummy, is not counted."""
    full_pages = np.arange(1, max((len(mapping.full_to_swa_M) - 1) // mapping.page_size, 1))
    swa_pages = mapping.swa_pages(full_pages)
    mapped = swa_pages > 0
    return int(mapped.sum()), int((mapped & (swa_pages != full_pages)).sum())


ANALYZER = Analyzer("pools", "How large and how full are the pools, and do their numberings differ?", analyze)
