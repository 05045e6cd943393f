"""How far the accept length falls when a draft reads wrong K/V: the accepting pair on the CPU, one table.

    .venv/bin/python benchmarks/accept_sensitivity.py [--prompt 1000] [--seeds 2]

Wrong pages, by share and by kind of layer; one wrong page of the window; each assistant layer and the recurrent
hidden taken away; and the states of the frozen-KV SWA bug, whose wrong tables are sglang's own doing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from g4diag.stack.drive import cpu  # noqa: E402

cpu.prepare_environment()

from g4diag.patches.applying import applied  # noqa: E402
from g4diag.stack.drive.frozen_draft import FrozenDraft  # noqa: E402
from g4diag.stack.drive.serving import Geometry  # noqa: E402
from g4diag.stack.pairs.accepting_pair.acceptance import (  # noqa: E402
    BOTH,
    FULL,
    SLIDING,
    Accepted,
    Case,
    WrongPages,
    accept_lengths,
    without_hidden,
    without_layer,
)

SHARES = (0.1, 0.25, 0.5, 1.0)
STATES = {
    "upstream": (),
    "faulty": ("faulty-rule",),
    "clamp": ("faulty-rule", "clamp"),
    "patch-e": ("faulty-rule", "patch-e"),
}


def cases(draft: FrozenDraft, pages: WrongPages) -> Mapping[str, Case]:
    """Every case of the first part of the table."""
    found: dict[str, Case] = {"healthy": nullcontext}
    for kind, name in ((SLIDING, "sliding"), (FULL, "full"), (BOTH, "both")):
        for share in SHARES:
            found[f"{name}: {share:.0%} of pages wrong"] = partial(pages.reading, kind, share=share)
    window_pages = -(-draft.serving.geometry.window // draft.serving.geometry.page_size) + 1
    for age in range(window_pages):
        found[f"window: page {age} of {window_pages} wrong"] = partial(pages.reading, SLIDING, newest=age)
    for layer in range(4):
        found[f"assistant without layer {layer}"] = partial(without_layer, draft, layer)
    found["assistant without hidden"] = partial(without_hidden, draft)
    return found


def as_is(draft: FrozenDraft, pages: WrongPages) -> Mapping[str, Case]:
    """Nothing but what the state itself does."""
    return {"": nullcontext}


def mean(found: Sequence[Accepted]) -> str:
    drafts = sum(one.drafts for one in found)
    length = sum(one.length * one.drafts for one in found) / drafts
    entries, wrong, outside = (sum(getattr(one, name) for one in found) for name in ("entries", "wrong", "outside"))
    return f"{length:7.3f} {drafts:7d} {entries:8d} {wrong:7d} {outside:8d}"


def main() -> int:
    """0 measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompt", type=int, default=1000, help="tokens (default 1000)")
    parser.add_argument("--seeds", type=int, default=2, help="runs with other prompts (default 2)")
    options = parser.parse_args()
    start = time.perf_counter()
    geometry = Geometry(prompt=options.prompt, requests=4, live=4, steps_per_admission=8, full_tokens=32768)
    print(f"{'accept length of 4':34} {'length':>7} {'drafts':>7} {'entries':>8} {'wrong':>7} {'outside':>8}")
    runs = [accept_lengths(geometry, seed, cases) for seed in range(options.seeds)]
    for name in runs[0]:
        print(f"{name:34} {mean([run[name] for run in runs])}", flush=True)
    churned = Geometry(prompt=options.prompt, requests=6, live=3, steps_per_admission=8)
    for state, patches in STATES.items():
        for path in ("eager", "graph"):
            with applied(patches):
                found = [accept_lengths(churned, seed, as_is, path=path)[""] for seed in range(options.seeds)]
            print(f"{state + ', ' + path:34} {mean(found)}", flush=True)
    print(f"{time.perf_counter() - start:.0f} s; {geometry}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
