#!/usr/bin/env python3
"""Another release of sglang in front of a stack that is there: a small layer of what differs. `make overlay` runs it.

    overlay_env.py setup RELEASE VENV [--over STACK]   the layer, and this checkout's environment VENV on top of it
    overlay_env.py overlay RELEASE [--over STACK]      the layer only; prints its folder

A stack takes 11 GB, and the releases since 0.5.12.post1 are many. To drive sglang's classes on a CPU a release needs
its own sglang, flashinfer-python and transformers; the torch of the nearest release whose stack is kept will do. The
layer holds those three, without what they ask for, and then whatever of that is missing below or there in a version
that they refuse. Only KEPT packages, big or of no use without a GPU, stay those of the stack even then: the layer's
`.complete` notes each of them, with the version wanted and the one found. So an overlay is for a CPU: it never takes
the place of `make setup STACK=RELEASE`.

The layer lies in the same cache as the stacks and is kept by the same rules (tools/stack_env.py); `make clean-stacks`
removes it too. Exit codes: 0; 2 usage; 3 cannot: one line says why.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import stack_env
from stack_env import CannotRunError, Layer

# Stacks to lay releases over, and the first release that goes over each: torch 2.11 below, 2.14 above.
STACKS = {"0.5.13": "0", "0.5.23": "0.5.18"}
COMPANIONS = ("flashinfer-python", "transformers")
KEPT = r"(torch|triton|nvidia-|cuda-|tilelang|flashinfer-cubin|sglang-kernel|sgl-|tokenspeed|flash-attn|mooncake).*"
# FlashInfer refuses to be imported beside the kernels of another version of it. None of them is called here.
PTH = "g4diag_overlay.pth", "import os; os.environ.setdefault('FLASHINFER_DISABLE_VERSION_CHECK', '1')\n"
ROUNDS = 5  # What is brought in may itself ask for more.

# Run by the layer's Python, which sees all that is below. Prints the companions' requirements, those that are not met,
# and those among them that stay so.
ASK = """
import importlib.metadata as metadata, json, re, sys
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

first, companions, kept, layer = json.loads(sys.argv[1])
def needs(name):
    found = [Requirement(line) for line in metadata.requires(name) or []]
    return [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]

here = {canonicalize_name(d.metadata["Name"]) for d in metadata.distributions(path=[layer])}
lacks = {}
for name in {first, *here}:
    for each in needs(name):
        try:
            has = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            has = "none"
        if has == "none" or not each.specifier.contains(has, prereleases=True):
            lacks[canonicalize_name(each.name)] = (f"{canonicalize_name(each.name)}{each.specifier}", has)
kept = {name for name in lacks if re.fullmatch(kept, name)}
print(json.dumps({
    "version": metadata.version(first),
    "companions": [f"{n.name}{n.specifier}" for n in needs(first) if canonicalize_name(n.name) in companions],
    "missing": sorted(wanted for name, (wanted, _) in lacks.items() if name not in kept),
    "stay": sorted("wanted {}, the stack below has {}".format(*lacks[name]) for name in kept),
}))
"""


def stack_for(release: str) -> str:
    """The stack whose torch is nearest."""

    def key(text: str) -> list[int]:
        return [int(part) for part in text.split(".") if part.isdecimal()]

    return max((stack for stack, first in STACKS.items() if key(first) <= key(release)), key=key)


def overlay(requirement: str, release: str, stack: Layer, needs_gb: float) -> Layer:
    """requirement: sglang==RELEASE."""
    facts = (requirement, *COMPANIONS, f"kept: {KEPT}")
    return Layer("overlay", release, facts, needs_gb, stack, partial(fill, requirement))


def fill(requirement: str, layer: Layer, log: Path, lock: int | None) -> list[str]:
    """The release, its companions, and round by round what these ask for and is not there."""
    name, _, version = requirement.partition("==")
    (layer.folder / stack_env.SITE / PTH[0]).write_text(PTH[1])
    bring(layer, [requirement], log, lock)
    facts = ask(layer, name)
    if facts["version"] != version:
        raise CannotRunError(f"overlay {layer.release}: wanted {requirement}, found {facts['version']} of the stack")
    bring(layer, facts["companions"], log, lock)
    for _ in range(ROUNDS):
        facts = ask(layer, name)
        if not facts["missing"]:
            return [f"not met: {line}" for line in facts["stay"]]
        bring(layer, facts["missing"], log, lock)
    raise CannotRunError(f"overlay {layer.release}: still missing after {ROUNDS} rounds: {', '.join(facts['missing'])}")


def bring(layer: Layer, requirements: list[str], log: Path, lock: int | None) -> None:
    if requirements:
        stack_env.run([*layer.pip, "install", "--no-deps", "--no-compile", *requirements], log, lock)


def ask(layer: Layer, name: str) -> dict[str, list[str]]:
    question = json.dumps([name, COMPANIONS, KEPT, str(layer.folder / stack_env.SITE)])
    done = subprocess.run([layer.pip[0], "-I", "-c", ASK, question], capture_output=True, text=True)
    if done.returncode:
        raise CannotRunError(f"overlay {layer.release}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    answer: dict[str, list[str]] = json.loads(done.stdout)
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["setup", "overlay"])
    parser.add_argument("words", nargs="+", metavar="RELEASE VENV")
    parser.add_argument("--over", metavar="STACK", help=f"one of {', '.join(STACKS)}; default: by the release's torch")
    parser.add_argument("--name", default="sglang", help="another package in its place; for tests")
    parser.add_argument("--needs-gb", type=float, default=1.5)
    args = parser.parse_args()
    if len(args.words) != {"setup": 2, "overlay": 1}[args.command]:
        parser.error("wanted: setup RELEASE VENV or overlay RELEASE")
    release = args.words[0]
    below = args.over or stack_for(release)
    stack = Layer("sglang", below, (f"{args.name}=={below}",), 8 * args.needs_gb)
    made = overlay(f"{args.name}=={release}", release, stack, args.needs_gb)
    try:
        if args.command == "setup":
            stack_env.set_up([made, stack_env.tools_on(stack)], stack_env.ROOT / args.words[1])
        else:
            with stack_env.ready(made):
                print(made.folder)
    except (CannotRunError, OSError) as error:
        stack_env.say(str(error))
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
