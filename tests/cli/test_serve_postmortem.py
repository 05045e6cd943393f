"""`g4diag serve` when its server dies unseen: stand-ins that kill themselves, abort, or print what CUDA prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.dump import postmortem
from tests.cli.test_inspect import run
from tests.cli.test_serve import FIT, clean_environ, program

RING = (
    "from g4diag.dump.ring import RingWriter; d = pathlib.Path(os.environ['G4DIAG_DUMP_DIR']);"
    "w = RingWriter(d / 'ring-1.g4ring', {'process': 'scheduler'}); w.step('DECODE', [41, *[1] * 14]); speak('armed');"
)
ILLEGAL = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
HARNESS = """
import sys, functools
from g4diag.serve import supervise
supervise.run = functools.partial(supervise.run, server={server!r}, checker={checker!r})
from g4diag.cli.main import main
sys.argv = ['g4diag', 'serve', *{arguments!r}]
main()
"""


def serve(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: its streams are real ones."""
    harness = HARNESS.format(server=program(code), checker=FIT, arguments=(*arguments, "--", "--model", "x"))
    return subprocess.run(
        [sys.executable, "-c", harness], capture_output=True, text=True, cwd=cwd, env=clean_environ(), timeout=120
    )


def dead(done: subprocess.CompletedProcess[str], folder: Path) -> postmortem.PostMortem:
    """The one post-mortem, which one line on stderr names."""
    (path,) = folder.glob("postmortem-*.json")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("g4diag serve: postmortem ")]
    assert f" file={path} " in line
    return postmortem.parse(path.read_bytes())


@pytest.mark.parametrize(
    ("code", "exit_code", "cause"),
    [
        ("os.kill(os.getpid(), 9)", 137, ("killed", "oom-kill")),
        ("os.abort()", 134, ("abort",)),
        (f"print({ILLEGAL!r}, file=sys.stderr, flush=True); os.kill(os.getpid(), 9)", 137, ("illegal-access",)),
        ("raise ValueError('no')", 1, ("other-error",)),
    ],
)
def test_a_death_is_told(code: str, exit_code: int, cause: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    done = serve(RING + code, "--traps", "all", "--dump-dir", "dumps", cwd=tmp_path)
    found = dead(done, folder)
    assert done.returncode == exit_code and found.cause in cause, done.stderr
    assert [ring.records[-1].step for ring in found.rings] == [41]
    if "illegal" in cause[0]:
        assert ILLEGAL in done.stderr and ILLEGAL in found.log_tail and found.log and (folder / found.log).exists()


def test_a_scheduler_killed_under_a_living_server_is_told(tmp_path: Path) -> None:
    scheduler = "subprocess.Popen(['sglang::scheduler_TP0', '-c', 'import time; time.sleep(60)'],"
    code = f"import subprocess; s = {scheduler} executable=sys.executable); time.sleep(1.5); s.kill(); s.wait();"
    # must_arm would stop it: this scheduler never spoke. The recorder is off and nothing is armed, but a log is kept.
    done = serve(code + "time.sleep(1); sys.exit(1)", "--dump-dir", "dumps", cwd=tmp_path)
    assert len(dead(done, tmp_path / "dumps").schedulers_gone) == 1


def test_what_the_server_prints_is_what_the_user_sees(tmp_path: Path) -> None:
    code = "sys.stdout.write('out\\n'); sys.stdout.flush(); sys.stderr.write('err\\n'); sys.exit(0)"
    with_log, without = (serve(code, *more, cwd=tmp_path) for more in (("--dump-dir", "dumps"), ()))
    assert (with_log.stdout, with_log.stderr) == (without.stdout, without.stderr) and with_log.stdout == "out\n"
    (log,) = (tmp_path / "dumps").iterdir()
    assert sorted(log.read_text().split()) == ["err", "out"]


@pytest.mark.parametrize("arguments", [(), ("--dump-dir", "dumps")])
def test_an_orderly_end_leaves_no_post_mortem(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = serve("sys.exit(0)", *arguments, cwd=tmp_path)
    assert done.returncode == 0 and "postmortem" not in done.stderr
    assert not list(tmp_path.rglob("postmortem*"))


def test_with_nothing_armed_and_no_folder_nothing_is_written(tmp_path: Path) -> None:
    assert serve("sys.exit(7)", cwd=tmp_path).returncode == 7 and not list(tmp_path.iterdir())


def test_inspect_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve(RING + "os.abort()", "--traps", "all", "--dump-dir", "dumps", cwd=tmp_path)
    (path,) = (tmp_path / "dumps").glob("postmortem-*.json")
    code, out, err = run(capsys, "inspect", "-v", path)
    assert code == 4 and "most likely of abort" in out and "last step 41" in out and not err
    assert run(capsys, "inspect", "--json", path)[0] == 4


@pytest.mark.parametrize(
    ("traps", "given", "on"), [("all", None, "on"), ("none", None, "off"), ("all", "off", "off"), ("none", "on", "on")]
)
def test_the_recorder_goes_with_the_traps_unless_told_otherwise(traps: str, given: str | None, on: str) -> None:
    from g4diag.serve.plan import Asked, plan

    found = plan(Asked(("--model", "x"), traps=traps), clean_environ(**{"G4DIAG_RECORDER": given} if given else {}))
    assert found.environ["G4DIAG_RECORDER"] == on and found.recorder is (on == "on")
    assert found.arms is (on == "on" or traps == "all")


def test_a_watched_server_keeps_its_log_where_dumps_go_by_default(tmp_path: Path) -> None:
    done = serve(f"speak('armed'); print({ILLEGAL!r}); sys.stdout.flush(); os.abort()", "--traps", "all", cwd=tmp_path)
    (path,) = (tmp_path / "g4diag-dumps").glob("postmortem-*.json")
    found = postmortem.parse(path.read_bytes())
    assert found.cause == "illegal-access" and found.log and (path.parent / found.log).exists(), done.stderr


def test_a_core_dump_of_the_gpu_is_asked_for_without_memory(tmp_path: Path) -> None:
    from g4diag.serve.plan import Asked, plan

    asked = Asked(("--model", "x"), traps="none", dump_dir=tmp_path, coredump=True)
    found = plan(asked, clean_environ())
    assert found.watches and not found.arms and found.environ["CUDA_COREDUMP_FILE"] == str(tmp_path / "core.%p")
    assert "skip_global_memory" in found.environ["CUDA_COREDUMP_GENERATION_FLAGS"]
    bare = plan(Asked(("--model", "x"), traps="none"), clean_environ())
    assert not bare.watches and "CUDA_COREDUMP_FILE" not in bare.environ
