"""Mutate evidence of every format, and read and judge what comes of it, as the child of `g4diag inspect` does:

    python tests/hostile/mutate.py --seconds 600 --seed 1     # or --count 5400

Prints one JSON line of counts, and one for each mutant that broke a promise; it is kept in --keep FOLDER. Exit 1 for
any. A promise: no fault of ours, one line, a refusal under 5 s of processor time and 1 GiB, and a file that showed a
fault is never called clean or healthy while the fault is still in it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from g4diag.analyzers import inspect_files  # noqa: E402
from g4diag.discover import contributions  # noqa: E402
from g4diag.dump.reader import read_dump  # noqa: E402
from g4diag.errors import G4DiagError  # noqa: E402
from g4diag.model import FIELDS, Severity  # noqa: E402
from g4diag.report.plain import plain  # noqa: E402
from g4diag.sandbox.wire import to_plain  # noqa: E402

MAX_SECONDS, MAX_KIB = 5.0, 1 << 20
TOKENS = (
    b"\0",
    b"\xff",
    b"\n",
    b"{",
    b"[",
    b"]",
    b"}",
    b'"',
    b"-1",
    b"NaN",
    b"9" * 30,
    b"\x1b[2J",
    b"PK\x03\x04",
    b"\x80\x02",
)
# As a server or the kernel words it; of a traceback its last line.
_TELLS = re.compile(rb"(?:Error|error): .{0,80}illegal memory access|Xid \(PCI|CUDA_ERROR_ILLEGAL_ADDRESS")


@dataclass(frozen=True)
class Seed:
    """One file to begin from. code: the exit code of `inspect` for it as it is."""

    name: str
    data: bytes
    code: int


def seeds() -> Iterator[tuple[str, bytes]]:
    """Files of every format: our dumps and those of the fork, a ring, post-mortems, logs in each coat, a core dump, and
    the pickles and archives of kernel calls."""
    kept = ("trtllm-mha-swa-faulty-seed0.pt", "bigram-units-faulty.pt", "legacy-page-table.pt", "legacy-allocator.pt")
    for name in (*kept, "h100-postmortem.json", "h100-surfaced-elsewhere.log", "hybrid-wrapper-in-range-seed0.pt"):
        yield name, (ROOT / "dumps" / name).read_bytes()
    logs = ROOT / "tests" / "logs" / "cases"
    for name in ("45-docker-jsonfile.log", "48-k8s-cri.log", "47-gz.log.gz", "17-trtllm15610-xid13.log"):
        yield name, (logs / name).read_bytes()
    for path in sorted((ROOT / "tests" / "cases" / "evidence").rglob("*inputs.pt"))[:1]:
        yield path.name, path.read_bytes()
    yield "made.g4ring", _ring()
    yield "made.core", b"\x7fELF\x02\x01\x01" + bytes(9) + b"\4\0\xbe\0" + bytes(200)
    yield "large-mapping.pt", _large_mapping()


def _ring() -> bytes:
    from g4diag.dump.ring import RingWriter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.g4ring"
        writer = RingWriter(path, {"process": "scheduler"}, 1 << 14)
        for step in range(20):
            writer.step("DECODE", [step, *[1] * 14], ["r"])
            writer.mark("violation", "page_table_stays_in_pool error seen=1 target decode layer=4 row=0")
        writer.close()
        return path.read_bytes()


def _large_mapping() -> bytes:
    """A dump of ours with a mapping in runs, put together without torch."""
    from tests.hostile.assembler import STORAGES, Tensor, dump, read, saved

    runs = {"slots": 1 << 20, "runs_R3": Tensor("2", 6, (2, 3), (3, 1)), "page_size": 64}
    storages = {**STORAGES, "2": struct.pack("<6i", 0, 0, 1, 1 << 19, 0, 0)}
    return saved(dump(version=3, reads=[read()], mapping=runs), storages)


def mutant(data: bytes, random_: random.Random) -> bytes:
    """One to four changes of bytes; of an archive half the time in an entry, with its checksums made right again."""
    if data.startswith(b"PK") and random_.random() < 0.6:
        return _inside(data, random_)
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        data = _changed(data, random_)
    return data


def _inside(data: bytes, random_: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as made:
        entries = archive.infolist()
        # Mostly the program, in which every count and name is.
        chosen = random_.choice(
            [entry.filename for entry in entries if entry.filename.endswith("data.pkl")] * 4
            + [e.filename for e in entries]
        )
        for entry in entries:
            body = archive.read(entry)
            made.writestr(
                zipfile.ZipInfo(entry.filename), _changed(body, random_) if entry.filename == chosen else body
            )
    return out.getvalue()


def _changed(data: bytes, random_: random.Random) -> bytes:
    if not data:
        return random_.choice(TOKENS)
    at, size = random_.randrange(len(data)), random_.choice((1, 1, 2, 4, 8, 64, 1000))
    match random_.randrange(6):
        case 0:  # cut
            return data[:at]
        case 1:  # flip a bit
            return data[:at] + bytes([data[at] ^ (1 << random_.randrange(8))]) + data[at + 1 :]
        case 2:
            return data[:at] + random_.choice(TOKENS) * random_.choice((1, 1, 1, 3000)) + data[at:]
        case 3:
            return data[:at] + data[at + size :]
        case 4:
            return data[: at + size] + data[at : at + size] * random_.choice((1, 2, 500)) + data[at + size :]
        case _:
            other = random_.randrange(len(data))
            return data[:at] + data[other : other + size] + data[at + size :]


def judged(path: Path) -> tuple[str, float, str]:
    """(how it ended, processor time in seconds, what was said). In this process, without the limits of the child
    that `g4diag inspect` reads in, so that what they would stop is seen."""
    began = time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_SECONDS)
    try:
        ended, said = _judged(path)
    except _SlowError:
        ended, said = "TOO SLOW", ""
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return ended, time.process_time() - began, said


def _judged(path: Path) -> tuple[str, str]:
    try:
        found = inspect_files([path])
        json.dumps(to_plain(found), allow_nan=False)
        return f"exit {found.outcome.exit_code}", ""
    except G4DiagError as error:
        return f"exit {error.exit_code}", str(error)
    except MemoryError:
        return "exit 5", "memory"
    except Exception as error:
        return "INTERNAL ERROR", f"{type(error).__name__}: {error} {traceback.format_exc()[-500:]}"


class _SlowError(BaseException):
    """It took longer than a refusal may."""


def _too_slow(*_: object) -> None:
    raise _SlowError


def peak_kib() -> int:
    """Of this process since it began; getrusage would count what it was forked from."""
    told = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(told.partition("VmHWM:")[2].split()[0])


def promise(seed: Seed, path: Path, ended: str, said: str, peak: int = 0) -> str:
    """Which one this mutant broke, "" if none. peak: KiB that it may have taken."""
    if not ended.startswith("exit "):
        return ended
    if said and (not all(line.isprintable() for line in [plain(said)]) or "Traceback" in said):
        return "more than one line"
    if peak > MAX_KIB:
        return "more than 1 GiB"
    if ended == "exit 0" and seed.code != 0 and holds_a_fault(seed, path):
        return "CLEAN for a faulty file's mutant"
    return ""


def holds_a_fault(seed: Seed, path: Path) -> bool:
    """Whether the fault is still in the file, by none of our analyzers: of a dump, that a trap alone finds an error;
    of a log, that a line which tells of it is whole."""
    if not seed.data.startswith(b"PK"):
        left = set(path.read_bytes().splitlines())
        return any(_TELLS.search(line) and line in left for line in seed.data.splitlines())
    incident = read_dump(path)
    views = [view for kind in FIELDS for view in getattr(incident, kind)] + list(incident.others)
    traps = [row.value for row in contributions("g4diag.traps", "TRAP")]
    found = (v for trap in traps for view in views if isinstance(view, trap.judges) for v in trap.judge(view))
    return any(violation.severity is Severity.ERROR for violation in found)


def run(count: int, seconds: float, number: int, keep: Path | None) -> tuple[Counter[str], list[str]]:
    """(how many ended how, what broke a promise). Ends at `count` mutants or after `seconds`, whichever is first."""
    random_, ends = random.Random(number), time.monotonic() + seconds
    counts: Counter[str] = Counter()
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="g4diag-mutants-") as folder:
        known = []
        for name, data in seeds():
            path = Path(folder) / name
            path.write_bytes(data)
            ended = judged(path)[0]
            known.append(Seed(name, data, int(ended.removeprefix("exit ")) if ended.startswith("exit ") else -1))
            counts[f"seed {ended}"] += 1
        at = 0
        while at < count and time.monotonic() < ends:
            seed = known[at % len(known)]
            data = mutant(seed.data, random_)
            path = Path(folder) / f"{at:06}-{seed.name}"
            path.write_bytes(data)
            ended, _, said = judged(path)
            counts[ended] += 1
            if why := promise(seed, path, ended, said, peak_kib()):
                broken.append(f"{path.name}: {why}: {said[-600:]}")
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / path.name).write_bytes(data)
            path.unlink()
            at += 1
    return counts, broken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    signal.signal(signal.SIGVTALRM, _too_slow)
    counts, broken = run(given.count, given.seconds, given.seed, given.keep)
    for line in broken:
        print(json.dumps(line))
    print(json.dumps({"seed": given.seed, "broken": len(broken), **dict(sorted(counts.items()))}))
    sys.exit(1 if broken or not counts else 0)
