"""`g4diag serve` with a stand-in for sglang.launch_server: real processes, real signals, real exit codes."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.doctor import flag_check
from g4diag.errors import CannotRunError
from g4diag.hooks.versions import version_of
from g4diag.serve import plan as serve_plan
from g4diag.serve import preflight, supervise
from tests.cli.test_inspect import run
from tests.marks import starts_sglang

ARMED = {"patches": [], "faults": [], "traps": ["page_table_stays_in_pool"]}
SPEAK = "from g4diag.stack.live import records; import os, sys, time, pathlib;"
SPEAK += "speak = lambda state, error='': records.write(pathlib.Path(os.environ['G4DIAG_RUN_DIR']), state, error, {});"


def program(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", SPEAK + code)


def checker(said: dict[str, object]) -> tuple[str, ...]:
    """A stand-in for the preflight's process."""
    return (sys.executable, "-c", f"import sys; open(sys.argv[1], 'w').write({json.dumps(said)!r})")


FIT = checker({"state": "armed", "error": "", "manifest": ARMED, "problems": []})


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch):
    """Make `g4diag serve` start this in place of sglang, after this in place of the preflight."""
    real = supervise.run

    def use(code: str, check: Sequence[str] = FIT) -> None:
        monkeypatch.setattr(supervise, "run", functools.partial(real, server=program(code), checker=check))

    return use


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, ...]:
    """Flags naming a target and a Gemma-4 assistant whose configs are on this machine."""
    (tmp_path / "config.json").write_text('{"architectures": ["Gemma4AssistantForCausalLM"]}')
    return ("--model", str(tmp_path), "--speculative-draft-model-path", str(tmp_path), "--speculative-algo", "NEXTN")


def serve(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code, out, err = run(capsys, "serve", *arguments)
    assert not out
    return code, err


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("--require", "all"), "wanted traps to arm, found none"),
        (("--traps", "page_table_stays_in_pool", "--require", "nonsense"), "unknown trap: wanted one of"),
        (("--traps", "page_table_stays_in_pool", "--require", "slot_inside_allocator"), "found slot_inside_allocator"),
    ],
)
def test_what_is_required_is_among_what_is_armed(
    stand_in, asked: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("sys.exit(0)")
    code, err = serve(capsys, *asked, "--", "--model", "x")
    assert code == 2 and says in err and err.count("\n") == 1


def test_it_says_in_one_line_what_is_watched_and_what_is_not(stand_in, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, left_out = {**ARMED, "traps": ["a_claim"]}, "b_claim: x.y: wanted parameters q, found r"
    said = {"state": "armed", "error": "", "manifest": manifest, "problems": [], "not_armed": [left_out]}
    stand_in("sys.exit(0)", check=checker(said))
    _, err = serve(capsys, "--traps", "page-table", "--", "--model", "x")
    told = [line for line in err.splitlines() if "watched: " in line]
    assert told == [f"g4diag serve: watched: a_claim; not watched: {left_out}"]


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("sys.exit(0)", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137), ("os.kill(os.getpid(), 15)", 143)],
)
def test_the_exit_code_is_the_servers(stand_in, code: str, exit_code: int, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(code)
    found, err = serve(capsys, "--", "--model", "x")
    assert found == exit_code and 'armed: {"faults": [], "patches": [], "traps": []}' in err


def test_every_process_is_armed_through_the_environment(
    stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SGLANG_PLUGINS", "other")
    monkeypatch.chdir(tmp_path)
    stand_in("speak('armed'); import json; json.dump([sys.argv[1:], dict(os.environ)], open('seen', 'w'))")
    flags = ("--model", "x", "--swa-full-tokens", "0.8", "--trust-remote-code")
    code, err = serve(capsys, "--patches", "clamp", "--traps", "all", "--dump-dir", "dumps", "--", *flags)
    arguments, environ = json.loads((tmp_path / "seen").read_text())
    assert code == 0 and arguments == list(flags), err
    assert (environ["G4DIAG_PATCHES"], environ["G4DIAG_TRAPS"]) == ("clamp", "all")
    assert environ["G4DIAG_EXPLICIT_FLAGS"] == "model-path,swa-full-tokens-ratio,trust-remote-code"
    assert environ["G4DIAG_DUMP_DIR"] == str(tmp_path / "dumps") and environ["SGLANG_PLUGINS"] == "other,g4diag"
    assert "not while a CUDA graph is captured" in err and str(tmp_path / "dumps") in err
    assert not Path(environ["G4DIAG_RUN_DIR"]).exists(), "cleaned up"


def test_a_fault_is_shouted_about(stand_in, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = {"patches": [], "faults": ["clamp"], "traps": []}
    stand_in("speak('armed')", checker({"state": "armed", "error": "", "manifest": manifest, "problems": ["x: y"]}))
    code, err = serve(capsys, "--patches", "clamp", "--", "--model", "x")
    assert code == 0 and "FAULT STATE PUT BACK ON PURPOSE, do not serve with this: clamp" in err
    assert "WARNING: not in force: x: y" in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--patches", "nonsense", "--", "--model", "x"),
        ("--traps", "nonsense", "--", "--model", "x"),
        ("--patches", "all,clamp", "--", "--model", "x"),
        ("--despite", "nonsense", "--", "--model", "x"),
        ("--model", "x"),
    ],
)
def test_usage_is_2_and_nothing_starts(
    stand_in, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stand_in(f"open({str(tmp_path / 'started')!r}, 'w')")
    code, err = serve(capsys, *arguments)
    assert code == 2 and ("wanted" in err or "No such option" in err)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("watched", [("--traps", "all"), ("--coredump",), ()])
def test_a_dump_directory_that_cannot_be_written_is_2_in_one_line_and_nothing_starts(
    stand_in,
    watched: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    stand_in(f"open({str(tmp_path / 'started')!r}, 'w')", (sys.executable, "-c", "raise SystemExit('not reached')"))
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "x"
    for given in (("--dump-dir", str(folder)), ()):
        code, err = serve(capsys, *watched, *given, "--", "--model", "x")
        assert (code, err) == (2, f"g4diag: {folder}: cannot be written: Not a directory\n")
        monkeypatch.setenv("G4DIAG_DUMP_DIR", str(folder))
    assert not (tmp_path / "started").exists()


def test_a_flag_that_would_end_the_server_is_2_and_nothing_starts(
    stand_in, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = checker({"unknown": [{"name": "--pagesize", "nearest": "--page-size"}], "refused": ""})
    monkeypatch.setattr(flag_check, "check", functools.partial(flag_check.check, program=asked))
    stand_in(f"open({str(tmp_path / 'started')!r}, 'w')")
    code, err = serve(capsys, "--", "--model", "x", "--pagesize", "64")
    assert code == 2 and err.count("\n") == 1 and "--pagesize" in err and "did you mean --page-size" in err
    assert not (tmp_path / "started").exists()


SPLIT = ("--prefill-attention-backend", "triton", "--decode-attention-backend", "trtllm_mha")


def test_what_upstream_would_only_fail_on_later_is_2_in_one_line(
    stand_in, pair: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("speak('inert')")
    code, err = serve(capsys, "--", *pair, *SPLIT)
    assert code == 2 and err.startswith("g4diag: hybrid-draft-backend: ") and err.count("\n") == 1
    assert "xqa-strided-query" not in err, "no GPU here, so XQA cannot be told"
    for way in ("--patches hybrid-wrapper-pool-swap", "--speculative-draft-attention-backend trtllm_mha", "--despite"):
        assert way in err
    named = ("--speculative-draft-attention-backend", "trtllm_mha")
    assert serve(capsys, "--", *pair, *SPLIT, *named)[0] == 0
    code, err = serve(capsys, "--despite", "hybrid-draft-backend", "--", *pair, *SPLIT)
    assert code == 0 and "known-bad combination, NOT CURED: hybrid-draft-backend" in err
    assert "; instead: --patches hybrid-wrapper-pool-swap, or --speculative-draft-attention-backend" in err


def test_a_named_cure_lifts_the_refusal(
    stand_in, pair: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    hazard = replace(serve_plan.known_hazards()["hybrid-draft-backend"], cures=("clamp",))
    monkeypatch.setattr("g4diag.hazards.judging.hazards", lambda: {hazard.name: hazard})
    stand_in("speak('armed')")
    code, err = serve(capsys, "--patches", "clamp", "--", *pair, *SPLIT)
    assert code == 0 and "known-bad combination, cured by clamp: hybrid-draft-backend" in err


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (checker({"state": "failed", "error": "PatchRefused: x", "manifest": {}, "problems": []}), "PatchRefused: x"),
        (checker({"state": "not called", "error": "", "manifest": {}, "problems": []}), "did not load the plugin"),
        ((sys.executable, "-c", "raise SystemExit('no such library')"), "ended with 1: no such library"),
    ],
)
def test_what_does_not_arm_is_3_in_one_line_before_the_server_starts(
    stand_in, check: Sequence[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(f"open({str(tmp_path / 'started')!r}, 'w')", check)
    code, err = serve(capsys, "--traps", "all", "--", "--model", "x")
    assert code == 3 and said in err and err.count("\n") == 1 and not (tmp_path / "started").exists()


def test_a_patch_that_does_not_fit_is_3_before_anything_is_imported(
    stand_in, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from g4diag.patches import applying

    misfit = replace(applying.patches()["clamp"], releases=">=9")
    monkeypatch.setattr(applying, "patches", lambda: {misfit.name: misfit})
    stand_in("", (sys.executable, "-c", "raise SystemExit('not reached')"))
    code, err = serve(capsys, "--patches", "clamp", "--", "--model", "x")
    assert (
        code == 3 and f"clamp: wanted sglang >=9, found sglang {version_of('sglang')}" in err and err.count("\n") == 1
    )


def test_no_sglang_is_3(stand_in, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(serve_plan, "version_of", lambda name: None)
    stand_in("")
    code, err = serve(capsys, "--", "--model", "x")
    assert code == 3 and err.startswith("g4diag: sglang: wanted ") and err.count("\n") == 1


@pytest.mark.parametrize("stubborn", ["", "import signal; signal.signal(15, signal.SIG_IGN);"])
def test_a_process_that_could_not_be_armed_stops_the_server(
    stand_in, stubborn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervise, "_GRACE", 0.5)
    stand_in(f"{stubborn} speak('failed', 'PatchRefused: clamp'); time.sleep(60)")
    start = time.monotonic()
    code, err = serve(capsys, "--traps", "all", "--", "--model", "x")
    assert code == 1 and time.monotonic() - start < 20
    (line,) = [line for line in err.splitlines() if "NOT ARMED" in line]
    assert "server stopped: PatchRefused: clamp" in line


def test_a_scheduler_that_never_loaded_the_plugin_stops_the_server(
    stand_in, capsys: pytest.CaptureFixture[str]
) -> None:
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    scheduler = f"subprocess.Popen(['sglang::scheduler_TP0', *{sleeper}[1:]], executable=sys.executable)"
    stand_in(f"import subprocess; speak('armed'); {scheduler}; time.sleep(60)")
    code, err = serve(capsys, "--traps", "all", "--", "--model", "x")
    assert code == 1 and "NOT ARMED in the scheduler (pid " in err
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if reads(p).startswith(b"sglang::scheduler_TP0")]


def reads(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_server_in_which_nobody_loaded_the_plugin_is_1(stand_in, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in("pass")
    code, err = serve(capsys, "--traps", "all", "--", "--model", "x")
    assert code == 1 and "NOT ARMED: no process of the server loaded the plugin" in err


@pytest.fixture
def started(tmp_path: Path) -> Iterator[object]:
    """Start `g4diag serve` itself as a process with a stand-in server; returns it once the server is up."""
    running: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        ready = tmp_path / "ready"
        # A rename says it: a signal that meets a file object being finalized is swallowed with its SystemExit.
        say = (
            f"p = pathlib.Path({str(ready)!r}); t = p.with_suffix('.tmp'); t.write_text(str(os.getpid())); t.rename(p)"
        )
        stand_in = program(f"{code}; {say}; time.sleep(60)")
        harness = (
            # A suite started in the background passes ignored signals on; here none may be.
            "import signal; signal.signal(1, signal.SIG_DFL); signal.signal(2, signal.default_int_handler);"
            "import sys, functools; from g4diag.serve import supervise;"
            f"supervise.run = functools.partial(supervise.run, server={stand_in!r});"
            "from g4diag.cli.main import main; sys.argv = ['g4diag', 'serve', '--', '--model', 'x']; main()"
        )
        child = subprocess.Popen([sys.executable, "-c", harness], stderr=subprocess.PIPE, text=True)
        running.append(child)
        deadline = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return child

    yield start
    for child in running:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_server_and_its_answer_is_ours(started, number: int) -> None:
    handled = "; ".join(f"signal.signal({n}, lambda n, f: sys.exit(40 + n))" for n in (1, 2, 15))
    child = started(f"import signal; {handled}")
    child.send_signal(number)
    assert child.wait(30) == 40 + number


def test_a_server_killed_by_the_signal_is_128_plus_n(started) -> None:
    child = started("import signal; signal.signal(1, signal.SIG_DFL)")
    child.send_signal(signal.SIGHUP)
    assert child.wait(30) == 129


def test_the_server_does_not_outlive_a_killed_serve(started, tmp_path: Path) -> None:
    child = started("pass")
    server = int((tmp_path / "ready").read_text())
    child.kill()
    child.wait(30)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{server}/cmdline").exists() and reads(Path(f"/proc/{server}/cmdline")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def clean_environ(**variables: str) -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("G4DIAG_")} | variables


@starts_sglang
def test_the_real_preflight_arms_what_the_server_will() -> None:
    manifest, problems, not_armed = preflight.preflight(clean_environ(G4DIAG_PATCHES="clamp", G4DIAG_TRAPS="all"))
    assert manifest["faults"] == ["clamp"] and len(manifest["traps"]) >= 4 and not problems and not not_armed


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"G4DIAG_PATCHES": "nonsense"}, "unknown patch"),
        ({"G4DIAG_PATCHES": "clamp", "SGLANG_PLUGINS": "other"}, "did not load the plugin"),
    ],
)
def test_the_real_preflight_refuses_in_one_line(variables: dict[str, str], said: str) -> None:
    with pytest.raises(CannotRunError, match=said) as caught:
        preflight.preflight(clean_environ(**variables))
    assert "\n" not in str(caught.value)
