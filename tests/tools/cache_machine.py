"""A machine for tools/stack_env.py and tools/overlay_env.py: a cache, a checkout, and packages made here. No index."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from types import ModuleType

TOOLS = Path(__file__).resolve().parents[2] / "tools"
TOOL = TOOLS / "stack_env.py"
# Enough of PEP 517 and 660 for pip: no build requirement, so no index is asked.
BACKEND = """
import os, pathlib, time, tomllib, zipfile

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
name = project["name"]


def wheel(folder, files):
    metadata = [f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0"]
    for extra, wanted in project.get("optional-dependencies", {}).items():
        metadata += [f"Provides-Extra: {extra}", *(f"Requires-Dist: {one}; extra == '{extra}'" for one in wanted)]
    about = {
        "METADATA": "\\n".join(metadata) + "\\n",
        "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "RECORD": "",
        "entry_points.txt": f"[console_scripts]\\n{name}-prefix = {name}:main\\n",
    }
    path = f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / path, "w") as file:
        for inner, text in (files | {f"{name}-1.0.dist-info/{inner}": text for inner, text in about.items()}).items():
            file.writestr(inner, text)
    return path


def build_wheel(folder, config_settings=None, metadata_directory=None):
    if "GATE" in os.environ:
        gate = pathlib.Path(os.environ["GATE"])
        with (gate / "builds").open("a") as builds:
            builds.write("x")
        while not (gate / "open").exists():
            time.sleep(0.05)
    return wheel(folder, {f"{name}.py": "import sys\\ndef main():\\n    print(sys.prefix)\\n"})


def build_editable(folder, config_settings=None, metadata_directory=None):
    return wheel(folder, {f"{name}.pth": os.getcwd()})
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "{name}"
"""


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stack_env", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["stack_env"] = module
    spec.loader.exec_module(module)
    return module


class Machine:
    """A cache, a checkout that holds the tool, and packages to install: `heavy` for a stack, and a newer `heavy`."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.checkout, self.gate, links = (folder / n for n in ("cache", "checkout", "gate", "links"))
        for path in (self.checkout / "tools", self.gate, links, self.cache):
            path.mkdir(parents=True)
        for tool in ("stack_env.py", "overlay_env.py"):
            (self.checkout / "tools" / tool).write_bytes((TOOLS / tool).read_bytes())
        self.declare('["heavy"]')
        (self.checkout / "backend.py").write_text(BACKEND)
        (folder / "pyproject.toml").write_text(PROJECT.format(name="heavy"))
        with tarfile.open(links / "heavy-1.0.tar.gz", "w:gz") as file:
            file.add(folder / "pyproject.toml", "heavy-1.0/pyproject.toml")
            file.add(self.checkout / "backend.py", "heavy-1.0/backend.py")
        self.links = links
        self.offer("heavy", "2.0")
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        pip = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(links),
            "PIP_NO_CACHE_DIR": "1",
            "PIP_CONFIG_FILE": os.devnull,
        }
        self.environment = {**ours, **pip, "G4DIAG_STACKS": str(self.cache)}

    def offer(self, name: str, version: str, *wanted: str) -> None:
        """A wheel on the index, of one module that knows its version. wanted: its requirements."""
        inner = f"{name}-{version}.dist-info"
        about = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        with zipfile.ZipFile(self.links / f"{name}-{version}-py3-none-any.whl", "w") as file:
            file.writestr(f"{name}.py", f"VERSION = {version!r}\n")
            file.writestr(f"{inner}/METADATA", "\n".join([*about, *(f"Requires-Dist: {one}" for one in wanted)]) + "\n")
            file.writestr(f"{inner}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr(f"{inner}/RECORD", "")

    def declare(self, extra: str) -> None:
        text = PROJECT.format(name="light") + f"[project.optional-dependencies]\ntest = {extra}\n"
        (self.checkout / "pyproject.toml").write_text(text)

    def start(
        self, *words: str, requirement: str = "heavy==1.0", needs: str = "0.01", gated: bool = False
    ) -> subprocess.Popen[str]:
        options = ["--requirement", requirement, "--needs-gb", needs] if words[0] in ("stack", "setup") else []
        return self.start_tool("stack_env.py", *words, *options, gated=gated)

    def start_tool(self, tool: str, *words: str, gated: bool = False) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, self.checkout / "tools" / tool, *words],
            env=self.environment | ({"GATE": str(self.gate)} if gated else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, requirement: str = "heavy==1.0", needs: str = "0.01") -> tuple[int, str, str]:
        process = self.start(*words, requirement=requirement, needs=needs)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def builds(self) -> int:
        return len((self.gate / "builds").read_text()) if (self.gate / "builds").exists() else 0

    def wait_for_build(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 120
        while not self.builds():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.05)

    def fake(self, name: str, complete: bool) -> Path:
        folder = self.cache / name
        folder.mkdir()
        (folder / "file").write_bytes(b"x" * 5_000_000)
        if complete:
            (folder / ".complete").touch()
        return folder
