#!/usr/bin/env python3
"""One copy of a heavy stack per machine, and light environments of checkouts that see it. `make` runs this.

    stack_env.py setup RELEASE VENV   the stack of sglang RELEASE, then this checkout's environment VENV on top of it
    stack_env.py stack RELEASE        the stack only; prints its folder
    stack_env.py list                 what the cache holds, with sizes
    stack_env.py clean                remove all of it that no other process is using
    overlay_env.py                    a small layer that puts another release in front of a stack

The cache is $G4DIAG_STACKS, else g4diag/stacks in $XDG_CACHE_HOME (~/.cache). It holds layers, each a plain venv that
pip filled: `sglang-RELEASE-cp311-HASH`, the stack, and on it `tools-RELEASE-cp311-HASH`, what pyproject.toml asks for
besides. The Python is the one that runs this file; the hash is over platform, requirement lines and the layer below.
A layer sees the one below through a .pth file, so that pip takes what lies there as installed. A checkout's environment
sees both in the same way, and holds only g4diag (editable) and copies of their commands that run its own Python.

A layer is built where it stays: scripts in a venv that was moved name a Python that is gone. Its last file is
`.complete`, what is installed, as pip's constraints. A layer without it counts as not there: the next process that
needs it builds it anew, and removes what other dead installs left. A lock file beside the folder is held while
installing, by pip too, so that an orphaned pip is waited for. Sharing it keeps a layer during a set-up. A checkout's
stamp is written last too: the hashes of all that the environment was made from, for sha256sum to check.

Exit codes: 0; 2 usage; 3 cannot: one line says why.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = re.compile(r"(sglang|tools|overlay)-[^-]+-cp3\d+-[0-9a-f]{12}")
COMPLETE, STAMP, LINK = ".complete", ".g4diag-stamp", "g4diag_stack.pth"
SITE = Path("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"


class CannotRunError(Exception):
    """Told to the user in one line."""


@dataclass(frozen=True)
class Layer:
    """What is wanted, and where it is or will be. fill: what installs it and gives lines to note; else pip does, all of
    it at once."""

    kind: str
    release: str
    requirements: tuple[str, ...]
    needs_gb: float
    below: Layer | None = None
    fill: Callable[[Layer, Path, int | None], list[str]] | None = field(default=None, compare=False)

    @property
    def chain(self) -> list[Layer]:
        """This one and what is below."""
        return [self, *(self.below.chain if self.below else [])]

    @property
    def pip(self) -> list[str | Path]:
        return [self.folder / "bin" / "python", "-I", "-m", "pip"]

    @property
    def folder(self) -> Path:
        facts = [sysconfig.get_platform(), *sorted(self.requirements)]
        facts += [self.below.folder.name] if self.below else []
        digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
        return cache() / f"{self.kind}-{self.release}-{TAG}-{digest}"

    @property
    def complete(self) -> Path:
        return self.folder / COMPLETE


def cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("G4DIAG_STACKS") or base / "g4diag" / "stacks").absolute()


def say(text: str) -> None:
    print(f"g4diag: {text}", file=sys.stderr, flush=True)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextlib.contextmanager
def locked(path: Path, how: int, waiting: str = "") -> Iterator[int | None]:
    """The lock's descriptor. When another process has it: wait, and say so; or give None, where nothing is to say."""
    # A folder is locked itself; else a lock file is made, and left: removing one is a race.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                yield None
                return
            say(waiting)
            fcntl.flock(handle, how)
        yield handle
    finally:
        os.close(handle)


def run(command: list[str | Path], log: Path, lock: int | None) -> None:
    """Output goes to `log`. The child shares the lock, which is free only when the child is gone too."""
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    shared = [] if lock is None else [lock]
    with log.open("ab") as out:
        done = subprocess.run(command, env=quiet, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=shared)
    if done.returncode:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR", "error"))] or lines or ["no output"]
        what = "pip" if "pip" in command else "venv"
        raise CannotRunError(f"{what} failed: {errors[-1]} (log: {log})")


def make_venv(venv: Path, below: Sequence[Layer], log: Path, lock: int | None) -> None:
    """below: layers to see, the first before the others."""
    # Not a venv's Python, which may be the very one that is replaced. Only the lowest layer gets a pip: the others see
    # it, and making one takes longer than all the rest.
    base = str(getattr(sys, "_base_executable", sys.executable))
    run([base, "-I", "-m", "venv", *(["--without-pip"] if below else []), venv], log, lock)
    if below:
        # The path alone is what editors read; addsitedir also obeys the .pth files over there.
        sites = [str(layer.folder / SITE) for layer in below]
        (venv / SITE / LINK).write_text("".join(f"{site}\nimport site; site.addsitedir({site!r})\n" for site in sites))


def install(layer: Layer, lock: int | None) -> None:
    """Into a folder that nobody else touches: the lock is held."""
    remove_dead()
    remove(layer.folder)
    what, log = f"{layer.kind} {layer.release}", beside(layer.folder, ".log")
    free = shutil.disk_usage(cache()).free / 1e9
    if free < layer.needs_gb:
        raise CannotRunError(f"wanted {layer.needs_gb:g} GB free in {cache()} for {what}, found {free:.1f} GB")
    say(f"installing {what} into {layer.folder} (minutes and up to {layer.needs_gb:g} GB, once on this machine) ...")
    log.unlink(missing_ok=True)
    try:
        make_venv(layer.folder, [layer.below] if layer.below else [], log, lock)
        notes = (layer.fill or fill)(layer, log, lock)
        frozen = subprocess.run([*layer.pip, "freeze"], capture_output=True, text=True, check=True).stdout
    except CannotRunError:
        remove(layer.folder)
        raise
    head = [f"# {note}" for note in [*layer.requirements, *notes]]
    lines = [line for line in frozen.splitlines() if re.fullmatch(r"[\w.-]+==\S+", line)]
    os.sync()  # A power cut must not leave the stamp without the rest.
    write_last(layer.complete, "\n".join([*head, *lines]) + "\n")
    log.unlink()


def fill(layer: Layer, log: Path, lock: int | None) -> list[str]:
    """All that is required and is not there already."""
    light: list[str | Path] = ["--no-compile", "-c", layer.below.complete] if layer.below else []
    run([*layer.pip, "install", *light, *layer.requirements], log, lock)
    return []


def write_last(path: Path, text: str) -> None:
    """All of it or nothing."""
    new = beside(path, ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def remove(folder: Path) -> None:
    """The stamp goes first: a removal that is interrupted leaves nothing that looks whole."""
    if folder.exists():
        for name in (COMPLETE, STAMP):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder)


def layers() -> list[Path]:
    found = cache().iterdir() if cache().is_dir() else iter(())
    return sorted(path for path in found if NAME.fullmatch(path.name) and path.is_dir())


def remove_dead() -> None:
    for folder in layers():
        if not (folder / COMPLETE).exists():
            with locked(beside(folder, ".flock"), fcntl.LOCK_EX) as lock:
                if lock is not None and not (folder / COMPLETE).exists():
                    remove(folder)


@contextlib.contextmanager
def ready(layer: Layer) -> Iterator[None]:
    """The layer and what is below are there, and stay while this is open."""
    cache().mkdir(parents=True, exist_ok=True)
    waiting = f"another process is installing or removing {layer.kind} {layer.release}; waiting for it ..."
    with ready(layer.below) if layer.below else contextlib.nullcontext():
        while True:
            with locked(beside(layer.folder, ".flock"), fcntl.LOCK_SH, waiting):
                if layer.complete.exists():
                    yield
                    return
            with locked(beside(layer.folder, ".flock"), fcntl.LOCK_EX, waiting) as lock:
                if not layer.complete.exists():
                    install(layer, lock)


def tools_on(stack: Layer) -> Layer:
    """All that pyproject.toml asks for but the stack and itself; to build the editable install too."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, lines = declared["project"], set(declared["build-system"]["requires"])
    extras = project.get("optional-dependencies", {})
    lines |= {line for extra in extras if extra != "stack" for line in extras[extra]} | set(
        project.get("dependencies", [])
    )
    wanted = tuple(sorted(line for line in lines if not line.startswith(f"{project['name']}[")))
    return Layer("tools", stack.release, wanted, min(stack.needs_gb, 0.5), stack)


def set_up(tops: Sequence[Layer], venv: Path) -> None:
    """An environment that sees these layers, the first before the others. Made anew unless the stamp still holds."""
    stamp, log = venv / STAMP, beside(venv, ".log")
    layers = list(dict.fromkeys(layer for top in tops for layer in top.chain))
    with contextlib.ExitStack() as held:
        lock = held.enter_context(locked(ROOT, fcntl.LOCK_EX, "another process sets this checkout up; waiting ..."))
        for top in tops:
            held.enter_context(ready(top))
        ours = [ROOT / "pyproject.toml", Path(__file__).resolve()]
        made_from = digests([*ours, *(layer.complete for layer in layers)])
        if stamp.exists() and stamp.read_text() == made_from:
            return
        say(f"setting {venv.name} up ...")
        remove(venv)
        log.unlink(missing_ok=True)
        make_venv(venv, tops, log, lock)
        alone = ["--no-deps", "--no-build-isolation", "--no-index"]
        run([venv / "bin" / "python", "-I", "-m", "pip", "install", *alone, "-e", ROOT], log, lock)
        for layer in layers:
            lend_commands(layer.folder, venv)
        write_last(stamp, made_from)
        log.unlink()


def digests(files: list[Path]) -> str:
    """As sha256sum writes them."""
    named = [(path, path.relative_to(ROOT) if path.is_relative_to(ROOT) else path) for path in files]
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for path, name in named)


def lend_commands(layer: Path, venv: Path) -> None:
    """Under the checkout's Python: `.venv/bin/sglang` must see g4diag's plugin, `.venv/bin/pytest` the checkout."""
    theirs, ours = (os.fsencode(folder / "bin" / "python") for folder in (layer, venv))
    for command in sorted((layer / "bin").iterdir()):
        target = venv / "bin" / command.name
        content = command.read_bytes()
        if target.exists():
            continue
        if theirs in content[:1000]:
            target.write_bytes(content.replace(theirs, ours, 1))
            target.chmod(0o755)
        else:
            target.symlink_to(command)


def list_layers(free: bool) -> None:
    """Say what there is, and remove it if asked."""
    total = 0.0
    for folder in layers():
        with locked(beside(folder, ".flock"), fcntl.LOCK_EX) as lock:
            counted = subprocess.run(["du", "-sk", folder], capture_output=True, text=True).stdout
            size, state = int(counted.split()[0]) * 1024 / 1e9, "" if (folder / COMPLETE).exists() else "incomplete"
            if lock is None:
                state = "kept: in use by another process" if free else "in use"
            elif free:
                remove(folder)
                beside(folder, ".log").unlink(missing_ok=True)
                state = "removed"
            total += 0.0 if free and lock is None else size
            print(f"{size:8.1f} GB  {folder}  {state}".rstrip())
    print(f"{total:8.1f} GB  {'freed' if free else 'in all'} in {cache()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["setup", "stack", "list", "clean"])
    parser.add_argument("words", nargs="*", metavar="RELEASE VENV")
    parser.add_argument("--requirement", action="append", help="instead of sglang==RELEASE; for tests")
    parser.add_argument("--needs-gb", type=float, default=12.0)
    args = parser.parse_args()
    if len(args.words) != {"setup": 2, "stack": 1}.get(args.command, 0):
        parser.error("wanted: setup RELEASE VENV, stack RELEASE, list or clean")
    try:
        if args.command in ("list", "clean"):
            list_layers(free=args.command == "clean")
            return 0
        release = args.words[0]
        stack = Layer("sglang", release, tuple(args.requirement or [f"sglang=={release}"]), args.needs_gb)
        if args.command == "setup":
            set_up([tools_on(stack)], ROOT / args.words[1])
        else:
            with ready(stack):
                print(stack.folder)
    except (CannotRunError, OSError) as error:
        say(str(error))
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
