"""What each mode of `trap_blocks.py` adds to a decode step, told from blocks of steps in random order, in two ways.

A step takes longer the more its requests have decoded, by more than any trap costs, and a shared machine drifts. Every
fit is of the logarithm of one figure a block: a level a batch, a cubic of the block's place in it, and what each mode
adds, which is its ratio. 95 % intervals by bootstrap over whole cycles. A level a cycle would change next to nothing:
every cycle has every mode once, so what is slower than a cycle cancels as it is.
median, mean: the contract's figures, of all steps of a block, fitted by least squares.
typical: the mean of the steps within CLEAN of the block's median. It uses a block's steps better than their median
does, and a late time stamp in one step and early in the next cancels; rare long steps are left out, and are in `mean`.
Fitted by generalised least squares: what goes together in neighbouring blocks, told from the residuals, is drift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

NAMES = ("none", "page-table", "all traps", "all + recorder")
CLEAN, LAGS = 0.25, 12
Steps = np.ndarray[Any, np.dtype[np.float64]]
Blocks = Sequence[Mapping[str, Any]]


def typical(steps: Steps) -> float:
    """Mean of the steps near the median."""
    return float(np.mean(steps[np.abs(steps / np.median(steps) - 1) < CLEAN]))


FIGURES: Mapping[str, tuple[Callable[[Any], Any], bool]] = {
    "median": (np.median, False),
    "mean": (np.mean, False),
    "typical": (typical, True),
}


class Fit:
    """Logarithms of one figure a block, explained. blocks: rows with `mode`, `cycle`, `first`; begun: the row at which
    a block's batch began; values: [blocks]. drift: by generalised least squares."""

    def __init__(self, blocks: Blocks, begun: Sequence[int], values: Steps, drift: bool) -> None:
        starts = np.array(begun)
        place = np.array([block["first"] for block in blocks], dtype=float) - starts
        place /= max(1.0, place.max())
        modes = np.array([block["mode"] for block in blocks])
        levels = [(starts == start).astype(float) for start in np.unique(starts)]
        terms = np.array([*levels, place, place**2, place**3, *(modes == name for name in NAMES[1:])], dtype=float).T
        self.rest = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
        if drift:
            root = np.linalg.cholesky(covariance(self.rest))
            terms, values = np.linalg.solve(root, terms), np.linalg.solve(root, values)
        self.numbers, cycle = np.unique([block["cycle"] for block in blocks], return_inverse=True)
        # What the normal equations are made of, one sum a cycle: a resample is a weighted sum of them.
        rows = [cycle == number for number in range(len(self.numbers))]
        self.squares = np.array([terms[mine].T @ terms[mine] for mine in rows])
        self.products = np.array([terms[mine].T @ values[mine] for mine in rows])

    def added(self, weights: Steps | None = None) -> Steps:
        """What each mode but the first adds. weights: of each cycle."""
        weights = np.ones(len(self.numbers)) if weights is None else weights
        squares, products = np.tensordot(weights, self.squares, 1), weights @ self.products
        # A batch that no resampled cycle is of has no level to find: least squares of the least norm.
        return np.asarray((np.linalg.pinv(squares, rcond=1e-10, hermitian=True) @ products)[1 - len(NAMES) :])

    def resampled(self, resamples: int, seed: int = 0) -> Steps:
        """[resamples, modes - 1], over whole cycles."""
        count = len(self.numbers)
        draws = np.random.default_rng(seed).integers(0, count, (resamples, count))
        return np.array([self.added(np.bincount(draw, minlength=count).astype(float)) for draw in draws])


def lagged(rest: Steps) -> Steps:
    """Autocovariance of residuals in order, at 0 .. LAGS."""
    return np.array([np.mean(rest[: len(rest) - lag] * rest[lag:]) for lag in range(min(LAGS + 1, len(rest)))])


def covariance(rest: Steps) -> Steps:
    """[blocks, blocks]: a part of its own in every block, and one that fades exponentially, fitted to the residuals."""
    found = lagged(rest)
    lags = np.arange(1, len(found))
    best = (np.inf, 0.0, 0.0)
    for fading in np.linspace(0.05, 0.97, 24):
        shape = fading**lags
        shared = max(0.0, float(shape @ found[1:]) / float(shape @ shape))
        best = min(best, (float(np.sum((found[1:] - shared * shape) ** 2)), float(fading), shared))
    _, fading, shared = best
    shared = min(shared, 0.95 * float(found[0]))  # something is always a block's own
    apart = np.abs(np.subtract.outer(np.arange(len(rest)), np.arange(len(rest))))
    return np.asarray(shared * fading**apart + (float(found[0]) - shared) * np.eye(len(rest)))


def _kept(
    blocks: Blocks, steps: Sequence[Steps], begun: Sequence[int | None]
) -> tuple[list[Mapping[str, Any]], list[Steps], list[int]]:
    """Blocks that are wholly of one batch and have steps."""
    rows = [row for row in zip(blocks, steps, begun, strict=True) if len(row[1]) and row[2] is not None]
    kept, times, starts = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    if any(len({block["cycle"] for block in kept if block["mode"] == name}) < 2 for name in NAMES):
        raise ValueError(f"wanted {', '.join(NAMES)} in two cycles each, found {len(kept)} whole blocks")
    return kept, times, starts


def ratios(
    blocks: Blocks, steps: Sequence[Steps], begun: Sequence[int | None], resamples: int = 1000
) -> list[dict[str, Any]]:
    """A row a mode: for each of FIGURES its ratio, and `_low` and `_high`. steps: of each block, us. begun: None of a
    block that is of two batches, which is left out. ValueError unless every mode has blocks in two cycles."""
    kept, times, starts = _kept(blocks, steps, begun)
    fitted = {}
    for kind, (figure, drift) in FIGURES.items():
        fit = Fit(kept, starts, np.log([figure(found) for found in times]), drift)
        fitted[kind] = fit.added(), fit.resampled(resamples)
    table = []
    for number, name in enumerate(NAMES):
        mine = [found for found, block in zip(times, kept, strict=True) if block["mode"] == name]
        all_of_them = np.concatenate(mine)
        row = {"mode": name, "blocks": len(mine), "steps": len(all_of_them), "step_us": float(np.median(all_of_them))}
        for kind, (found, drawn) in fitted.items():
            row[kind] = 1.0 if number == 0 else float(np.exp(found[number - 1]))
            low, high = (1.0, 1.0) if number == 0 else np.exp(np.percentile(drawn[:, number - 1], [2.5, 97.5]))
            row |= {f"{kind}_low": float(low), f"{kind}_high": float(high)}
        table.append(row)
    return table


def noise(blocks: Blocks, steps: Sequence[Steps], begun: Sequence[int | None]) -> dict[str, float]:
    """Where the intervals' width comes from, relative. For each figure the standard deviation of a block about the fit;
    `own`: what a block's steps alone would make of its median, were they independent; `neighbours`: correlation of the
    medians' residuals in neighbouring blocks. `own` as large as `median`: only more steps help, else shorter blocks do.
    `typical` far below: time stamps jitter, and longer blocks help it."""
    kept, times, starts = _kept(blocks, steps, begun)
    # A normal sample's median, by the middle half of its steps, so that rare long ones do not count.
    spans = [np.subtract(*np.percentile(np.log(found), [75, 25])) / 1.349 / np.sqrt(len(found)) for found in times]
    said = {"own": float(1.2533 * np.sqrt(np.mean(np.square(spans))))}
    for kind, (figure, _) in FIGURES.items():
        rest = Fit(kept, starts, np.log([figure(found) for found in times]), False).rest
        said[kind] = float(np.std(rest))
        if kind == "median":
            together = lagged(rest)
            said["neighbours"] = float(together[1] / together[0])
    return said


def settling(blocks: Blocks, steps: Sequence[Steps], begun: Sequence[int | None], first: int = 5) -> dict[str, float]:
    """By mode, how much longer the first steps of a block are beside its others than with nothing armed: median over
    blocks of the ratio of both medians, less that of `none`. As large as what a trap adds, it says that a change has
    not settled, and that short blocks are biased."""
    kept, times, _ = _kept(blocks, steps, begun)
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for block, mine in zip(kept, times, strict=True):
        if len(mine) > 2 * first:
            found[block["mode"]].append(float(np.median(mine[:first]) / np.median(mine[first:])))
    if not found[NAMES[0]]:
        return {}
    return {name: float(np.median(rows) - np.median(found[NAMES[0]])) for name, rows in found.items() if rows}


def pooled(runs: Sequence[tuple[Blocks, Sequence[Steps], Sequence[int | None]]]) -> tuple[Any, Any, Any]:
    """(blocks, steps, begun) of several runs as of one: each run's cycles and batches stay its own."""
    blocks: list[dict[str, Any]] = []
    steps: list[Steps] = []
    begun: list[int | None] = []
    for found, times, starts in runs:
        cycles, row = len({block["cycle"] for block in blocks}), max((block["end"] for block in blocks), default=0)
        numbers = {number: cycles + index for index, number in enumerate(sorted({block["cycle"] for block in found}))}
        for block in found:
            moved = {"cycle": numbers[block["cycle"]], "first": block["first"] + row, "end": block["end"] + row}
            blocks.append(dict(block) | moved)
        begun += [None if start is None else start + row for start in starts]
        steps += list(times)
    return blocks, steps, begun
