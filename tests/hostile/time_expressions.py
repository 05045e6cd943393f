"""Time expressions over repeated text: `python tests/hostile/expressions.py | python tests/hostile/time_expressions.py`
prints those that cost more than in proportion to the length, one JSON line each. Standard library only.

Each is searched for in texts of one sign repeated, and of what the expression itself begins with repeated: where that
costs as the square, eight times the length costs sixty-four times as much.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

# Lengths to compare, and the processor time in seconds below which the longer one is fine whatever the shorter took.
# What is dear even in proportion, as some hundred signs are looked at from each place, is compared early.
STEPS = ((500, 4_000, 0.005), (4_000, 32_000, 0.03))
MOST, DEAR = 1.0, 0.06  # seconds: then it is given up; then it is not compared once more
MOST_TIMES, CLOCK = 32, 0.002  # 8 times for one in proportion, 64 for the square; what the clock may be off
SIGNS = "\n 0aA.-(='\\/"
THEN = " a"
MOST_WORDS = 4


class _TooLongError(Exception):
    """A search took more than MOST."""


def texts(pattern: str, flags: int) -> Iterator[tuple[str, str]]:
    """(what a text begins with, what follows again and again): each sign; each beginning of the expression, as a text
    that it matches; and signs after such a beginning."""
    yield from (("", sign) for sign in SIGNS)
    seen: set[str] = set()
    for branch in _branches(list(_parser.parse(pattern, flags & ~re.DEBUG))):
        for end in range(1, len(branch) + 1):
            word = "".join(map(_sample, branch[:end]))
            if word and word not in seen and len(seen) < MOST_WORDS:
                seen.add(word)
                yield "", word
                yield from ((word, sign) for sign in THEN)


def _branches(items: list[Any]) -> Iterator[list[Any]]:
    """The expression itself; of one that is a choice, each way."""
    if len(items) == 1 and items[0][0] is _constants.BRANCH:
        for way in items[0][1][1]:
            yield list(way)
    elif len(items) == 1 and items[0][0] is _constants.SUBPATTERN:
        yield from _branches(list(items[0][1][3]))
    else:
        yield items


def _sample(item: Any) -> str:
    """A short text that one part of an expression matches; "" for a place."""
    kind, value = item
    if kind is _constants.LITERAL:
        return chr(value)
    if kind is _constants.NOT_LITERAL:
        return "a" if value != ord("a") else "b"
    if kind is _constants.ANY:
        return "a"
    if kind is _constants.IN:
        return _of_class(value)
    if kind is _constants.SUBPATTERN:
        return "".join(map(_sample, value[3]))
    if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
        return "".join(map(_sample, value[2])) * min(max(value[0], 1), 64)
    if kind is _constants.BRANCH:
        return "".join(map(_sample, value[1][0]))
    if kind is _constants.ATOMIC_GROUP:
        return "".join(map(_sample, value))
    return ""


def _of_class(items: Any) -> str:
    wanted = [sign for sign in "a0A _-.:/x1\n\t'\"" if _in_class(items, sign)]
    return wanted[0] if wanted else "~"


def _in_class(items: Any, sign: str) -> bool:
    inside, negated = False, False
    for kind, value in items:
        if kind is _constants.NEGATE:
            negated = True
        elif kind is _constants.LITERAL:
            inside |= ord(sign) == value
        elif kind is _constants.RANGE:
            inside |= value[0] <= ord(sign) <= value[1]
        elif kind is _constants.CATEGORY:
            word = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w", "NOT_DIGIT": r"\D", "NOT_SPACE": r"\S"}
            name = str(value).removeprefix("CATEGORY_")
            inside |= re.match(word.get(name, r"\W"), sign) is not None
    return inside != negated


def seconds(pattern: Any, text: Any, searched: bool) -> float:
    """Of processor time that a pass over all matches takes, or a match at the start; MOST if it takes more."""
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST)
    began = time.process_time()
    try:
        if not searched:
            pattern.match(text), pattern.fullmatch(text)
        else:
            for _match in pattern.finditer(text):
                pass
    except _TooLongError:
        return MOST
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return time.process_time() - began


def _give_up(*_: object) -> None:
    raise _TooLongError


def slow(pattern: str, flags: int, searched: bool) -> tuple[str, float, float] | None:
    """(word, seconds for a text, for one eight times as long) where this costs more than in proportion to the text."""
    of_bytes = not flags & re.UNICODE
    made: Any = re.compile(pattern.encode("latin-1") if of_bytes else pattern, flags)
    for head, word in texts(pattern, flags):

        def cost(length: int, head: str = head, word: str = word) -> float:
            # Something after it: what ends in a place of its own is else found at once.
            text = head + word * (length // len(word)) + "\x01"
            return seconds(made, text.encode() if of_bytes else text, searched)

        for short, long, fine in STEPS:
            if (taken := cost(long)) < fine or (taken := min(taken, cost(long))) < fine:
                continue
            before = max(cost(short), CLOCK)
            if taken >= MOST or taken > MOST_TIMES * before:
                return head + word, before, taken
            if taken > DEAR:
                break
    return None


def arm() -> None:
    """Before the first search, so that it can be given up."""
    signal.signal(signal.SIGVTALRM, _give_up)


if __name__ == "__main__":
    arm()
    count = 0
    for line in sys.stdin:
        text, flags, where, searched = json.loads(line)
        count += 1
        if found := slow(text, flags, searched):
            print(json.dumps({"where": where, "pattern": text[:120], "word": found[0][:60], "seconds": found[1:]}))
    print(json.dumps({"timed": count}))
