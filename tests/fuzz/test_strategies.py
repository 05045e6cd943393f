"""Strategies that make one choice where several would do still offer every value."""

from __future__ import annotations

from itertools import permutations

from hypothesis import find, given

from g4diag.fuzz import strategies
from g4diag.fuzz.of_machine import OfMachine


def test_either_has_all_values_of_both_and_about_as_many_of_each() -> None:
    found = strategies.either(range(1, 101), [100, 200, 300])
    assert set(found) == {*range(1, 101), 200, 300}
    assert 100 <= sum(value in (200, 300) for value in found) * 3 / 2 <= 105


def test_every_selection_can_be_drawn() -> None:
    for wanted in (list(each) for size in (1, 2, 3) for each in permutations("abc", size)):
        some = OfMachine("some", lambda machine, number: strategies.some_of(("a", "b", "c"), 1, None, number))
        assert find(some, lambda drawn, wanted=wanted: drawn == wanted) == wanted


@given(OfMachine("some", lambda machine, number: strategies.some_of(tuple(range(7)), 1, 2, number)))
def test_of_many_some_are_drawn(drawn: list[int]) -> None:
    assert 1 <= len(drawn) <= 2 and len(set(drawn)) == len(drawn)


_PROMPTS = OfMachine("prompts", lambda machine, number: strategies.some_prompts(3, 2, 80, 16, number))


@given(_PROMPTS)
def test_prompts_are_of_the_texts_there_are(drawn: list[tuple[int, int, int, int]]) -> None:
    assert 1 <= len(drawn) <= 3
    for text, shared, own, token in drawn:
        assert text in (0, 1) and 0 <= shared <= 82 and 1 <= own <= 32 and token in (0, 1, 2)


def test_a_prompt_shrinks_to_the_least() -> None:
    assert find(_PROMPTS, lambda drawn: True) == [(0, 0, 1, 0)]
    assert find(_PROMPTS, lambda drawn: drawn[0][1] >= 32)[0][:3] == (0, 32, 1)
