"""Every G4DIAG_* variable: typed when right, one line with wanted and found when not."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from g4diag.errors import UsageError
from g4diag.settings import _NAMES, DEFAULT_DUMP_DIR, Selection, Settings, dump_dir, require_writable


def test_nothing_set_means_nothing_armed() -> None:
    settings = Settings.from_env({"PATH": "/bin"})
    assert settings == Settings() and not settings.patches and not settings.traps


def test_all_of_them(tmp_path: Path) -> None:
    settings = Settings.from_env(
        {
            "G4DIAG_PATCHES": "faulty-rule, patch-e,faulty-rule",
            "G4DIAG_TRAPS": "all",
            "G4DIAG_DUMP_DIR": str(tmp_path / "new"),
            "G4DIAG_TRACEBACK": "yes",
            "G4DIAG_RAISE": "1",
            "G4DIAG_RUN_DIR": str(tmp_path / "run"),
            "G4DIAG_EXPLICIT_FLAGS": "--swa_full_tokens_ratio, model-path,model-path,",
            "G4DIAG_RECORDER": "on",
            "G4DIAG_METRICS": "off",
            "G4DIAG_HEALTHY_ACCEPT": "2.8",
            "G4DIAG_LOG": "json",
        }
    )
    assert settings == Settings(
        patches=Selection(names=("faulty-rule", "patch-e")),
        traps=Selection(everything=True),
        dump_dir=tmp_path / "new",
        show_traceback=True,
        reraise=True,
        run_dir=tmp_path / "run",
        explicit_flags=("swa-full-tokens-ratio", "model-path"),
        recorder=True,
        metrics=False,
        healthy_accept=2.8,
        log="json",
    )


@pytest.mark.parametrize("text", ["", "none", " , "])
def test_ways_to_say_none(text: str) -> None:
    assert not Settings.from_env({"G4DIAG_PATCHES": text}).patches


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("G4DIAG_PATCHES", "all,clamp", ("G4DIAG_PATCHES", "wanted", "all")),
        ("G4DIAG_TRAPS", "none,x", ("G4DIAG_TRAPS", "none")),
        ("G4DIAG_RECORDER", "maybe", ("G4DIAG_RECORDER", "wanted on or off", "maybe")),
        ("G4DIAG_METRICS", "maybe", ("G4DIAG_METRICS", "wanted on or off", "maybe")),
        ("G4DIAG_LOG", "xml", ("G4DIAG_LOG", "wanted text, json", "xml")),
        ("G4DIAG_HEALTHY_ACCEPT", "nan", ("G4DIAG_HEALTHY_ACCEPT", "from 1 up", "nan")),
        ("G4DIAG_HEALTHY_ACCEPT", "high", ("G4DIAG_HEALTHY_ACCEPT", "from 1 up", "high")),
        ("G4DIAG_RAISE", "maybe", ("G4DIAG_RAISE", "wanted 1 or 0", "maybe")),
        ("G4DIAG_DUMP_DIR", __file__, ("G4DIAG_DUMP_DIR", "directory", "file")),
        ("G4DIAG_PATCH", "clamp", ("G4DIAG_PATCH", "wanted", "G4DIAG_PATCHES")),
    ],
)
def test_bad_values_and_unknown_names_hold_both_sides(name: str, text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        Settings.from_env({name: text})
    assert all(part in str(caught.value) for part in parts) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


FORK = {"SGLANG_TRTLLM_MHA_DEBUG": "1", "SGLANG_TRTLLM_MHA_DEBUG_DIR": "/d"}


def test_the_forks_variables_arm_its_two_traps() -> None:
    settings = Settings.from_env(FORK)
    assert settings.traps.names == ("page_table_stays_in_pool", "slot_inside_allocator")
    assert settings.dump_dir == Path("/d") and not settings.patches
    assert not Settings.from_env(FORK | {"SGLANG_TRTLLM_MHA_DEBUG": "0"}).traps


def test_ours_win_over_the_forks() -> None:
    settings = Settings.from_env(FORK | {"G4DIAG_TRAPS": "none", "G4DIAG_DUMP_DIR": "/e"})
    assert not settings.traps and settings.dump_dir == Path("/e")


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().reraise = True  # type: ignore[misc]


def test_dumps_go_where_the_command_line_says_then_the_variable_then_the_default(tmp_path: Path) -> None:
    told = {"G4DIAG_DUMP_DIR": "there", "SGLANG_TRTLLM_MHA_DEBUG_DIR": "elsewhere"}
    assert dump_dir(tmp_path, told) == tmp_path and dump_dir(None, told) == Path("there")
    assert dump_dir(None, {"SGLANG_TRTLLM_MHA_DEBUG_DIR": "elsewhere"}) == Path("elsewhere")
    assert dump_dir(None, {"G4DIAG_DUMP_DIR": " "}) == dump_dir(None, {}) == DEFAULT_DUMP_DIR
    with pytest.raises(UsageError, match="wanted a directory, found a file"):
        dump_dir(None, {"G4DIAG_DUMP_DIR": __file__})


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "new" / "er", Path("new"), Path(".")):
        assert require_writable(folder) == folder
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "file/x", "file/x/y", "dangling/x", "a\0b", "long" * 100, "/proc/nope/x"])
def test_a_folder_that_cannot_be_written_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r": cannot be written: \w"):
        require_writable(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_makefiles_variable_is_no_misspelt_one() -> None:
    assert Settings.from_env({"G4DIAG_STACKS": "/somewhere"}) == Settings.from_env({})


@pytest.mark.parametrize("text", ["1/\u00b2", "1/\u0663", "1/0", "2/3", "1/", "1/1e3", "1/" + "9" * 5000])
def test_a_sample_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="G4DIAG_SAMPLE: wanted 1/N"):
        Settings.from_env({"G4DIAG_SAMPLE": text})
    assert Settings.from_env({"G4DIAG_SAMPLE": "1/16"}).sample == 16


def test_every_variable_has_its_row_in_the_docs() -> None:
    text = (Path(__file__).parents[1] / "docs" / "environment.md").read_text(encoding="utf-8")
    assert len(_NAMES) > 10 and [name for name in _NAMES if f"| `{name}` |" not in text] == []
