"""Hold every anchor of every patch against the text of sglang's wheels, and write the table that the tests read; and
count what `jit-bit-cast` rewrites in the kernel sources, which are no Python and so have no anchors.

    mkdir -p build/wheels && for release in 0.5.13 0.5.23; do                     # or any other on the index
      .venv/bin/python -m pip download --no-deps --only-binary :all: -d build/wheels "sglang==$release"
    done
    .venv/bin/python tools/pin_wheels.py build/wheels

FOLDER holds wheels, or folders named by release that one was unpacked into. Releases that are in the table and not in
FOLDER are kept, for the anchors they were pinned for; an anchor that is new needs every release again, and the command
says so. Wheels are text here: nothing of them is imported. They are not committed, this table is.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from packaging.version import Version

from g4diag.hooks.anchors import Anchor, pin
from g4diag.patches.applying import patches

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "data" / "anchors.json"
CASTS = ROOT / "tests" / "data" / "bit_casts.json"
SOURCES = (".cuh", ".h")
Counts = dict[str, dict[str, int]]  # "target: text" -> release -> occurrences, -1 for no such module or name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    anchors = wanted()
    counts, casts = kept(anchors), json.loads(CASTS.read_text()) if CASTS.is_file() else {}
    for release, root in unpacked(folder, {anchor.target.split(".")[1] for anchor in anchors.values()}):
        print(f"{release} ...", file=sys.stderr, flush=True)
        for key, anchor in anchors.items():
            found = pin(anchor, root)
            counts[key][release] = found.count if found.there else -1
        casts[release] = bit_casts(root)
    releases = sorted({release for row in counts.values() for release in row}, key=Version)
    missing = {release for row in counts.values() for release in releases if release not in row}
    if missing or not releases:
        print(f"not written: wanted the wheels of {', '.join(sorted(missing)) or 'any release'} in {folder} too")
        return 1
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(rendered(releases, anchors, counts), encoding="utf-8")
    CASTS.write_text(json.dumps({release: casts[release] for release in releases}, indent=2) + "\n", encoding="utf-8")
    print(f"{TABLE.relative_to(ROOT)}: {len(anchors)} anchors, {len(releases)} releases")
    return 0


def wanted() -> dict[str, Anchor]:
    """Every anchor of every patch, once, by what it says."""
    rows = [anchor for patch in patches().values() for form in patch.ways for anchor in form.anchors]
    rows += [patch.upstream_when for patch in patches().values() if patch.upstream_when]
    return {
        f"{anchor.target}: {anchor.text}": anchor for anchor in sorted(rows, key=lambda row: (row.target, row.text))
    }


def kept(anchors: Mapping[str, Anchor]) -> Counts:
    """What the table has of these anchors already."""
    before: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {"anchors": []}
    rows = {f"{row['target']}: {row['text']}": row["counts"] for row in before["anchors"]}
    return {key: dict(zip(before["releases"], rows[key], strict=True)) if key in rows else {} for key in anchors}


def bit_casts(root: Path) -> dict[str, int]:
    """Source of a JIT kernel, from csrc/ or include/ on -> uses of std::bit_cast in it, where there are any."""
    folders = [root / "sglang" / name for name in ("jit_kernel", "kernels/jit")]
    files = [(path, folder) for folder in folders for suffix in SOURCES for path in folder.rglob(f"*{suffix}")]
    found = {path.relative_to(folder).as_posix(): path.read_text().count("std::bit_cast") for path, folder in files}
    return {name: count for name, count in sorted(found.items()) if count}


def unpacked(folder: Path, parts: set[str]) -> Iterator[tuple[str, Path]]:
    """(release, folder that holds sglang/) for each wheel and each unpacked one. parts: subpackages to unpack."""
    for path in sorted(folder.iterdir()):
        if (path / "sglang").is_dir():
            yield path.name, path
        elif path.suffix == ".whl" and not (folder / path.name.split("-")[1]).is_dir():
            with TemporaryDirectory() as temporary, zipfile.ZipFile(path) as wheel:
                names = [name for name in wheel.namelist() if _is_text(PurePosixPath(name), parts)]
                wheel.extractall(temporary, names)
                yield path.name.split("-")[1], Path(temporary)


def _is_text(path: PurePosixPath, parts: set[str]) -> bool:
    return (
        path.suffix in (".py", *SOURCES)
        and path.parts[0] == "sglang"
        and (len(path.parts) == 2 or path.parts[1] in parts)
    )


def rendered(releases: list[str], anchors: Mapping[str, Anchor], counts: Counts) -> str:
    """One anchor a line, so that a change is seen as one."""
    about = (
        "occurrences of each anchor's text in its target, by release; -1: no such module or name. tools/pin_wheels.py"
    )
    lines = []
    for key, anchor in anchors.items():
        row = {"target": anchor.target, "text": anchor.text, "counts": [counts[key][release] for release in releases]}
        lines.append("    " + json.dumps(row))
    head = f'{{\n  "about": {json.dumps(about)},\n  "releases": {json.dumps(releases)},\n  "anchors": [\n'
    return head + ",\n".join(lines) + "\n  ]\n}\n"


if __name__ == "__main__":
    sys.exit(main())
