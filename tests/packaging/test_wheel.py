"""The wheel: one top-level package, the scenarios in it, and commands that run without a checkout or a stack."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.test_inspect import DUMPS, blocking

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = {path.name for path in (ROOT / "repro").glob("*.py")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in this process by the declared backend, so without a network."""
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed").WheelBuilder
    (built,) = builder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(built)


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would put into site-packages."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def installed(site: Path, elsewhere: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One command of the wheel's g4diag, where no checkout lies and no heavy package can be imported."""
    blocking(elsewhere / "blocked")
    command = [sys.executable, "-m", "g4diag", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(elsewhere / "blocked"), str(site)])}
    return subprocess.run(
        command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_installs_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"g4diag", next(top for top in tops if top.endswith(".dist-info"))}
    assert {name.rpartition("/")[2] for name in names if name.startswith("g4diag/repro/")} == SCENARIOS
    assert "g4diag/analyzers/known_issues.toml" in names and "g4diag/report/html/page.js" in names
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_its_scenarios_are_all_listed(site: Path, tmp_path: Path) -> None:
    done = installed(site, tmp_path, "repro", "--list")
    assert done.returncode == 0 and not done.stderr
    names = {line.split()[0].replace("-", "_") + ".py" for line in done.stdout.splitlines()[1:]}
    assert names == SCENARIOS - {"__init__.py"}


def test_its_g4diag_is_the_one_that_runs(site: Path, tmp_path: Path) -> None:
    """Else the tests beside this one would tell of the checkout."""
    program = "import g4diag.repro.trtllm_mha_swa as it; print(it.__file__)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(site)


def test_it_reads_evidence(site: Path, tmp_path: Path) -> None:
    done = installed(site, tmp_path, "match", DUMPS / "trtllm-mha-swa-faulty-seed0.pt")
    assert (done.returncode, done.stderr) == (0, "") and "trtllm-mha-swa" in done.stdout


def test_its_page_has_what_draws_its_pictures(site: Path) -> None:
    assert (site / "g4diag" / "report" / "html" / "plotly-cartesian.min.js.gz").stat().st_size > 400_000


def test_it_judges_a_release_that_is_not_installed(site: Path, tmp_path: Path) -> None:
    """With the matrix that it carries."""
    asked = ("doctor", "--sglang-version", "0.5.16", "--gpu", "sm90", "--", "--attention-backend", "trtllm_mha")
    done = installed(site, tmp_path, *asked)
    assert (done.returncode, done.stderr) == (1, "") and "trtllm-mha-prefill-arch" in done.stdout
