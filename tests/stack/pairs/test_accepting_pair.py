"""The accepting pair does its task, its drafts are accepted, and each way to read wrong K/V lowers the accept length.

What the accept length is worth, of 4 (prompts of 1000 tokens, window 128, pages of 16; all of it is printed by
`benchmarks/accept_sensitivity.py`): healthy 3.3; one wrong page of the window's nine, 2.0 to 3.3 by its place; a tenth,
a quarter, half and all of the sliding pages wrong 2.5, 2.2, 1.5, 1.0; of the full layer's 2.6, 1.8, 1.4, 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g4diag.errors import UsageError
from g4diag.stack.pairs.accepting_pair import task

WINDOW = 128


def walk_of_a(ids: list[int]) -> list[int]:
    return [token // task.SYMBOLS for token in ids]


def test_prompts_are_the_same_for_the_same_seed_and_hold_no_special_id() -> None:
    prompts = task.prompts(3, 4000, 7, WINDOW)
    assert prompts == task.prompts(3, 4000, 7, WINDOW) and prompts != task.prompts(3, 4000, 8, WINDOW)
    assert {len(prompt) for prompt in prompts} == {4000} and prompts[0] != prompts[1]
    assert all(1 <= a <= 126 for prompt in prompts for a in walk_of_a(prompt))


def test_every_far_step_is_told_once_before_the_walk_resumes() -> None:
    for prompt in task.prompts(4, 4000, 0, WINDOW):
        told = [step for step in pairwise(walk_of_a(prompt[:-4])) if task.FILLER not in step]
        assert len(told) == len(set(told)) == 125
        assert task.FILLER not in walk_of_a(task.continued(prompt, 128))


def test_no_step_is_told_at_the_first_position_which_has_nothing_before_it() -> None:
    assert {walk_of_a(prompt)[0] for prompt in task.prompts(300, 208, 0, WINDOW)} == {task.FILLER}


def test_only_the_window_knows_the_next_step_of_s() -> None:
    contradicted = 0
    for prompt in task.prompts(8, 1000, 0, WINDOW):
        steps = list(pairwise(token % task.SYMBOLS for token in prompt))
        recent = dict(steps[1 - WINDOW :])
        assert all(recent[s] == after for s, after in steps[1 - WINDOW :])
        assert all(token % task.SYMBOLS in recent for token in task.continued(prompt, 200))
        contradicted += sum(recent.get(s, after) != after for s, after in steps[:-WINDOW])
    assert contradicted > 1000


def test_a_prompt_without_room_is_refused() -> None:
    with pytest.raises(UsageError, match="prompt of 207 tokens: the task wants 208 or more"):
        task.prompts(1, 207, 0, WINDOW)


def test_the_draft_knows_seven_tokens_in_eight_wherever_one_looks() -> None:
    for of in (range(task.VOCAB), range(0, 32 * 128), *(range(s, task.VOCAB, 128) for s in (0, 77))):
        assert sum(map(task.known_to_draft, of)) / len(of) == pytest.approx(7 / 8, abs=0.06)


@pytest.mark.parametrize(("drafted", "length"), [([1, 2, 3], 4), ([1, 2, 9], 3), ([1, 9, 3], 2), ([9, 2, 3], 1)])
def test_a_verify_step_yields_the_leading_right_tokens_and_one_more(drafted: list[int], length: int) -> None:
    assert task.accepted(drafted, [1, 2, 3]) == length


class TestOnTheCPU:
    """Through sglang's model classes, pools, page tables, and FrozenKVMTPWorker.draft_forward."""

    @pytest.fixture(scope="class")
    def found(self) -> Mapping[str, Any]:
        """Accept lengths of one server, all cases over the same requests."""
        pytest.importorskip("sglang")
        from g4diag.stack.drive.serving import Geometry
        from g4diag.stack.pairs.accepting_pair.acceptance import (
            FULL,
            SLIDING,
            accept_lengths,
            without_hidden,
            without_layer,
        )

        def cases(draft: Any, pages: Any) -> dict[str, Any]:
            shares = ((0.25, "a quarter"), (0.5, "half"), (1.0, "all"))
            return (
                {"healthy": nullcontext}
                | {f"sliding, {name}": partial(pages.reading, SLIDING, share=share) for share, name in shares}
                | {f"full, {name}": partial(pages.reading, FULL, share=share) for share, name in shares}
                | {f"window page {age}": partial(pages.reading, SLIDING, newest=age) for age in (4, 5)}
                | {f"without layer {layer}": partial(without_layer, draft, layer) for layer in range(4)}
                | {"without hidden": partial(without_hidden, draft)}
            )

        return accept_lengths(Geometry(requests=3, live=3, steps_per_admission=8), 0, cases)

    def test_healthy_is_high_and_below_its_ceiling(self, found: Mapping[str, Any]) -> None:
        assert 2.5 < found["healthy"].length < 3.8
        assert found["healthy"].drafts >= 18 and found["healthy"].wrong == found["healthy"].outside == 0

    @pytest.mark.parametrize("kind", ["sliding", "full"])
    def test_it_falls_with_the_share_of_wrong_pages(self, found: Mapping[str, Any], kind: str) -> None:
        rows = [found["healthy"], *(found[f"{kind}, {share}"] for share in ("a quarter", "half", "all"))]
        assert [row.wrong for row in rows] == sorted({row.wrong for row in rows})
        lengths = [row.length for row in rows]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[0] - lengths[1] > 0.2 and lengths[2] < 2.0 and lengths[3] < 1.1

    def test_one_wrong_page_of_the_window_shows(self, found: Mapping[str, Any]) -> None:
        rows = [found[f"window page {age}"] for age in (4, 5)]
        assert all(row.wrong == 24 * 3 * 3 * 3 for row in rows)  # tokens x steps x sliding layers x requests
        assert all(row.length < found["healthy"].length - 0.3 for row in rows)
        assert min(row.length for row in rows) < 2.1

    @pytest.mark.parametrize("part", ["layer 0", "layer 1", "layer 2", "layer 3", "hidden"])
    def test_every_part_of_the_assistant_matters(self, found: Mapping[str, Any], part: str) -> None:
        assert found[f"without {part}"].length < 1.6

    @pytest.mark.parametrize(
        ("patches", "low", "high"),
        [((), 2.5, 3.8), (("faulty-rule", "clamp"), 1.0, 1.5), (("faulty-rule", "patch-e"), 2.5, 3.8)],
        ids=["upstream", "clamp", "patch-e"],
    )
    def test_it_tells_the_states_of_the_swa_bug_apart(self, patches: tuple[str, ...], low: float, high: float) -> None:
        pytest.importorskip("sglang")
        from g4diag.patches.applying import applied
        from g4diag.stack.drive.serving import Geometry
        from g4diag.stack.pairs.accepting_pair.acceptance import accept_lengths

        with applied(patches):
            cases = lambda draft, pages: {"": nullcontext}  # noqa: E731
            found = accept_lengths(Geometry(live=3, steps_per_admission=4), 0, cases, path="graph")[""]
        assert low <= found.length <= high and found.drafts >= 9

    def test_a_server_after_it_may_have_a_smaller_vocabulary(self) -> None:
        """The graph runner's buffers are the process's, with token ids that an earlier server left."""
        pytest.importorskip("sglang")
        from g4diag.stack.drive import cpu
        from g4diag.stack.drive.frozen_draft import FrozenDraft
        from g4diag.stack.drive.reference import PagedAttention
        from g4diag.stack.drive.serving import Geometry, Serving
        from g4diag.stack.pairs import tiny_gemma
        from g4diag.stack.pairs.accepting_pair import models

        attention = PagedAttention()
        with cpu.attention_kernels(attention.decode, attention.prefill):
            for pair in (models, tiny_gemma):
                serving = Serving(Geometry(prompt=300, requests=1), 0, pair=pair)
                draft = FrozenDraft(serving)
                assert all(serving.admit(rid, ids) for rid, ids in serving.prompts())
                assert draft.graph().max() < pair.VOCAB


class TestForAServer:
    """The folders that sglang's ordinary loader takes, in sizes XQA has."""

    @pytest.fixture(scope="class")
    def folders(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
        pytest.importorskip("sglang")
        from g4diag.stack.pairs.accepting_pair.files import write_pair

        return write_pair(tmp_path_factory.mktemp("pair"))

    def test_written_twice_it_is_the_same_bytes(self, folders: tuple[Path, Path], tmp_path: Path) -> None:
        from g4diag.stack.pairs.accepting_pair.files import write_pair

        for one, other in zip(folders, write_pair(tmp_path), strict=True):
            assert sorted(path.name for path in one.iterdir()) == ["config.json", "model.safetensors"]
            assert all((one / path.name).read_bytes() == path.read_bytes() for path in other.iterdir())

    def test_loaded_by_sglang_it_accepts(self, folders: tuple[Path, Path]) -> None:
        """Gemma4ForConditionalGeneration, whose positions run one ahead of the assistant's; pages of 64, bfloat16."""
        from g4diag.stack.drive.driver import driver
        from g4diag.stack.drive.serving import Geometry
        from g4diag.stack.pairs.accepting_pair import models
        from g4diag.stack.pairs.accepting_pair.acceptance import FULL, SLIDING, accept_lengths

        targets = []

        def target_model(window: int, seed: int) -> tuple[Any, Any]:
            targets.append(loaded(folders[0]))
            return targets[0]

        served = SimpleNamespace(
            VOCAB=models.VOCAB,
            prompt=models.prompt,
            target_model=target_model,
            assistant_model=lambda window, seed, layers: loaded(folders[1]),
        )

        def cases(draft: Any, pages: Any) -> dict[str, Any]:
            wrong = {name: partial(pages.reading, kind) for name, kind in (("sliding", SLIDING), ("full", FULL))}
            return {"healthy": nullcontext} | wrong

        geometry = Geometry(prompt=400, requests=2, live=2, steps_per_admission=4, page_size=64, ratio=0.5)
        found = accept_lengths(geometry, 1, cases, pair=served)
        assert found["healthy"].length > 2.5
        assert found["sliding"].length < 1.3 and found["full"].length < 1.3
        windows = {getattr(layer, "sliding_window_size", -1) for layer in targets[0][1].modules()} - {-1, None}
        past = driver().SCHEDULING.LAYER_WINDOW_PAST_CACHE
        assert windows == {targets[0][1].get_attention_sliding_window_size() + past}, "what the cache machines go by"


def loaded(folder: Path) -> tuple[Any, Any]:
    """(text config, model) as sglang's own loader makes them on the CPU."""
    from sglang.srt.configs.device_config import DeviceConfig
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.model_loader import get_model

    config = ModelConfig(str(folder), is_draft_model=folder.name == "draft", enable_multimodal=True)
    model = get_model(model_config=config, load_config=LoadConfig(), device_config=DeviceConfig("cpu"))
    return config.hf_text_config, model.eval()


def test_sizes_that_do_not_hold_the_circuit_are_refused() -> None:
    pytest.importorskip("sglang")
    from g4diag.stack.pairs.accepting_pair.models import target_config
    from g4diag.stack.pairs.accepting_pair.weights import assistant_weights, target_weights

    small = target_config(WINDOW)
    small.head_dim = 32
    with pytest.raises(UsageError, match="wanted vocabulary 16384"):
        list(target_weights(small))
    with pytest.raises(UsageError, match="4 layers of one kind: wanted 1 to 3"):
        list(assistant_weights(target_config(WINDOW, ("sliding_attention",) * 4 + ("full_attention",)), 72))


def test_a_model_that_writes_to_its_weights_leaves_the_next_ones_alone() -> None:
    """The embeddings are made once for all servers of a process."""
    pytest.importorskip("sglang")
    from g4diag.stack.pairs.accepting_pair.models import target_config
    from g4diag.stack.pairs.accepting_pair.weights import assistant_weights, target_weights

    config = target_config(WINDOW, ("sliding_attention", "full_attention"))
    for made in (lambda: target_weights(target_config(WINDOW)), lambda: assistant_weights(config, 72)):
        first = [(name, tensor.clone()) for name, tensor in made()]
        for _, tensor in made():
            tensor.fill_(7.0)
        assert all(name == other and bool((a == b).all()) for (name, a), (other, b) in zip(first, made(), strict=True))


def test_the_command_says_where_it_wrote_and_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("safetensors")
    from g4diag.stack.pairs.accepting_pair.__main__ import main

    assert main([]) == main(["--help"]) == 2
    assert "usage: python -m g4diag.stack.pairs.accepting_pair FOLDER" in capsys.readouterr().err
