"""The search: from a point that shows something to a smaller one that still does. Knows nothing of servers.

A point is a whole number for each name. First several numbers are halved together, as long as that works; then each
goes down by bisection; then each is tried at one less until none can go. The result depends on nothing but the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Point = dict[str, int]


def shrink(
    start: Mapping[str, int],
    ask: Callable[[Point], bool],
    *,
    together: Sequence[Sequence[str]] = (),
    axes: Sequence[str] = (),
    found: Callable[[Point], None] = lambda point: None,
) -> Point:
    """The smallest point found; `ask` says no to each that is less by one on a single axis (lowest value: 1).

    start: shows it; is not asked about. together: names halved at once, in this order. found: told each smaller point
    that shows it. What `ask` raises ends the search; the last point `found` was told is the best.
    """
    search = _Search(dict(start), ask, found)
    for names in together:
        search.halve(names)
    for name in axes:
        search.bisect(name)
    while True:
        before = search.best
        for name in axes:
            search.step_down(name)
        for names in together:
            search.halve(names)
        if search.best == before:
            return search.best


class _Search:
    def __init__(self, start: Point, ask: Callable[[Point], bool], found: Callable[[Point], None]) -> None:
        self.best, self._ask, self._found = start, ask, found

    def halve(self, names: Sequence[str]) -> None:
        """All of them at once, for as long as that works."""
        while self._try({name: max(1, self.best[name] // 2) for name in names}):
            pass

    def bisect(self, name: str) -> None:
        """To a value that works and whose next lower one does not, the lowest tried first."""
        if self.best[name] <= 1 or self._try({name: 1}):
            return
        fails = 1
        while self.best[name] - fails > 1:
            middle = (fails + self.best[name]) // 2
            if not self._try({name: middle}):
                fails = middle

    def step_down(self, name: str) -> None:
        """One less, and where that works all the way again."""
        if self.best[name] > 1 and self._try({name: self.best[name] - 1}):
            self.bisect(name)

    def _try(self, changes: Point) -> bool:
        point = self.best | changes
        if point == self.best or not self._ask(point):
            return False
        self.best = point
        self._found(point)
        return True
