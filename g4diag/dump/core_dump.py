"""CUDA core dumps: told by their header, read by cuda-gdb where it is installed, and what it says as kernel faults.

The debugger gets no init file and loads no script; what it prints is text to us, cut and parsed, never run. It writes
files, and starts others, so it does not run in the process that reads evidence, but under limits of its own: see
`tell`, `debugger` and `limited`.
"""

from __future__ import annotations

import itertools
import re
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from g4diag.dump.limited import output_of
from g4diag.errors import UnsafeInputError
from g4diag.model import Grade, Incident, KernelFault

ELF = b"\x7fELF"
SECONDS, MAX_CORES, _LINES, _LINE = 60.0, 4, 40, 1000
_CORE, _CUDA = 4, 190  # e_type ET_CORE; e_machine EM_CUDA
# It is handed to the debugger inside a command line of its own.
_TAME = re.compile(r"[\w./+@%:,=~-]+")
_COMMANDS = ("info cuda kernels",)

_TRIPLE = r"\((\d{1,9}), ?(\d{1,9}), ?(\d{1,9})\)"
_EXCEPTION = re.compile(r"CUDA Exception:\s{0,8}(.+)|CUDA_EXCEPTION_\d{1,4},\s{0,8}([^.]{1,400})|(CUDBG_EXCEPTION_\w+)")
_FOCUS = re.compile(rf"focus set to CUDA kernel .{{0,600}}?block {_TRIPLE}, thread {_TRIPLE}")
_FRAME = re.compile(rf"(?:\bin\s{{1,4}}|^#0\s{{1,4}})(\S.{{0,600}}?)\s{{0,4}}<<<{_TRIPLE},\s{{0,4}}{_TRIPLE}>>>")
_ROW = re.compile(rf"^\*\s{{1,8}}\d{{1,6}}\s.{{0,160}}?{_TRIPLE}\s{{1,8}}{_TRIPLE}\s{{1,8}}([^\s(]{{1,400}})")


# What a debugger said outside, by path; None where it may be run here.
_told: Mapping[str, Sequence[str]] | None = None


def tell(said: Mapping[str, Sequence[str]]) -> None:
    """From here on no debugger is run in this process; these are its words, by path."""
    global _told
    _told = said


def how_to_read(path: Path) -> str:
    """What to type where cuda-gdb is installed."""
    return f"cuda-gdb -nx -batch -ex 'target cudacore {path}' " + " ".join(f"-ex '{said}'" for said in _COMMANDS)


def says(path: Path, seconds: float = SECONDS) -> tuple[str, ...]:
    """What cuda-gdb says of a core dump, at most 40 lines; one line saying why not otherwise. Never raises."""
    if _told is not None and str(path) in _told:
        return tuple(_told[str(path)])
    gdb = shutil.which("cuda-gdb")
    if gdb is None:
        return ("no cuda-gdb to read it with",)
    if _told is not None:
        return (f"not given to cuda-gdb: it is asked of {MAX_CORES} core dumps at most",)
    if not _TAME.fullmatch(str(path)):
        return ("not given to cuda-gdb: its name holds a blank or a sign that a debugger may take as its own",)
    command = [gdb, "-nx", "-nh", "-batch", "-iex", "set auto-load off", "-ex", f"target cudacore {path.absolute()}"]
    command += [word for said in _COMMANDS for word in ("-ex", said)]
    try:
        text = output_of(command, seconds).decode(errors="replace")
    except TimeoutError:
        return (f"cuda-gdb: gave no end of an answer within {seconds:g} s",)
    except OSError as error:
        return (f"cuda-gdb: {type(error).__name__}",)
    return tuple(line[:_LINE] for line in text.splitlines() if line.strip())[:_LINES]


def faults(lines: Iterable[str], source: str) -> tuple[KernelFault, ...]:
    """The fault that the debugger put in focus; none where its words name no kernel and no exception."""
    text = "\n".join(line[:_LINE] for line in itertools.islice(lines, _LINES))
    raised, focus, frame = _EXCEPTION.search(text), _FOCUS.search(text), _FRAME.search(text)
    row = next((found for line in text.splitlines() if (found := _ROW.match(line))), None)
    shape: Sequence[str] = frame.groups()[1:] if frame else row.groups()[:6] if row else ()
    kernel = frame.group(1).strip() if frame else row.group(7) if row else ""
    if not raised and not kernel:
        return ()
    exception = next(filter(None, raised.groups()), "").strip() if raised else ""
    numbers = tuple(map(int, focus.groups())) if focus else ()
    block = (numbers[0], numbers[1], numbers[2]) if numbers else None
    thread = (numbers[3], numbers[4], numbers[5]) if numbers else None
    meaning = _meaning(kernel, block, [int(number) for number in shape])
    return (KernelFault(kernel[:200], exception[:200], source, block, thread, meaning),)


def _meaning(kernel: str, block: tuple[int, int, int] | None, shape: Sequence[int]) -> str:
    """What a block of FlashInfer's XQA stands for, told by the threads its two sources launch with."""
    if block is None or len(shape) != 6 or not kernel.startswith("kernel_mha"):
        return ""
    _, y, z = block
    if tuple(shape[3:]) == (128, 1, 2):  # csrc/xqa/mha.cu
        # With several queries a row (speculative decoding) y also counts blocks of queries.
        return f"row {z}, K/V head {y} if the call had one query a row (XQA, csrc/xqa/mha.cu)"
    if tuple(shape[3:]) == (128, 1, 3):  # csrc/xqa/mha_sm90.cu
        return f"row x K/V heads + K/V head = {z} (XQA, csrc/xqa/mha_sm90.cu)"
    return ""


def check_header(head: bytes) -> None:
    """Raise UnsafeInputError if this ELF file is no CUDA core dump, saying what it is."""
    kind, machine = struct.unpack(">HH" if head[5:6] == b"\2" else "<HH", head[16:20].ljust(4, b"\0"))
    if kind != _CORE:
        raise UnsafeInputError(f"ELF: wanted a CUDA core dump, found an ELF file of type {kind}")
    if machine != _CUDA:
        raise UnsafeInputError(
            f"ELF: wanted a CUDA core dump (machine {_CUDA}), found a core dump of the host (machine {machine}): "
            "read it with gdb"
        )


def read_core(path: Path, head: bytes, size: int) -> Incident:
    """A core dump as something to inspect: no views, so nothing can be judged, only told."""
    check_header(head)
    said = says(path)
    found = faults(said, path.name)
    notes = [(Grade.MEASURED, f"CUDA core dump of {size} bytes")]
    if not found:
        notes.append((Grade.MEASURED, f"its kernels are not told: {' | '.join(said)[:300] or 'cuda-gdb said nothing'}"))
        notes.append((Grade.MEASURED, f"to read it: {how_to_read(path)}"))
    return Incident(
        origin="cuda-coredump",
        context={"bytes": size, "says": list(said)},
        notes=tuple(notes),
        faults=found,
    )
