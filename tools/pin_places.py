"""Hold what the release files say against the text of sglang's wheels, and write the table that the tests read: which
anchors tell a release, and the parameters of every function that probes hook.

    .venv/bin/python tools/pin_places.py build/wheels

FOLDER is as for tools/pin_wheels.py, which says how to fill it; here it must hold every release of the table. Wheels
are text: nothing of them is imported. They are not committed, this table is.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from packaging.version import Version
from pin_wheels import ROOT, unpacked

from g4diag.hooks.anchors import Anchor, pin, source_file
from g4diag.stack.releases import known

TABLE = ROOT / "tests" / "data" / "places.json"
SHOWN = 8  # leading parameters; no hook unpacks more


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    anchors = {anchor for release in known().values() for anchor in release.known_by}
    paths = {point.path for release in known().values() for point in release.points.values()}
    counts: dict[Anchor, dict[str, int]] = {anchor: {} for anchor in anchors}
    places: dict[str, dict[str, list[str] | None]] = {path: {} for path in paths}
    for release, root in unpacked(folder, {"srt"}):
        print(f"{release} ...", file=sys.stderr, flush=True)
        for anchor in anchors:
            found = pin(anchor, root)
            counts[anchor][release] = found.count if found.there else -1
        for path in paths:
            places[path][release] = parameters(path, root)
        parsed.cache_clear()
    releases = sorted({release for row in counts.values() for release in row}, key=Version)
    before = json.loads(TABLE.read_text(encoding="utf-8"))["releases"] if TABLE.is_file() else []
    missing = [release for release in before if release not in releases]
    if missing or not releases:
        print(f"not written: wanted the wheels of {', '.join(missing) or 'any release'} in {folder} too")
        return 1
    rows = [
        {"target": anchor.target, "text": anchor.text, "counts": [counts[anchor][release] for release in releases]}
        for anchor in sorted(anchors, key=lambda anchor: (anchor.target, anchor.text))
    ]
    functions = [{"path": path, "parameters": [places[path][r] for r in releases]} for path in sorted(paths)]
    TABLE.write_text("\n".join(rendered(releases, rows, functions)) + "\n", encoding="utf-8")
    print(f"{TABLE.relative_to(ROOT)}: {len(rows)} anchors, {len(functions)} places, {len(releases)} releases")
    return 0


def parameters(path: str, root: Path) -> list[str] | None:
    """Names of the leading parameters, self and cls left out, `*` before one that takes the rest; None for no such
    function."""
    if (located := source_file(path, root)) is None or not located[1]:
        return None
    body: list[ast.stmt] = parsed(located[0]).body
    for name in located[1]:
        scopes = (node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef))
        if (node := next((node for node in scopes if node.name == name), None)) is None:
            return None
        body = node.body
    if not isinstance(node, ast.FunctionDef):
        return None
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    taken = [name for name in names if name not in ("self", "cls")]
    rest = [f"*{node.args.vararg.arg}"] if node.args.vararg else []
    return [*taken, *rest][:SHOWN]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def rendered(releases: list[str], *tables: list[dict[str, object]]) -> Iterator[str]:
    """One fact a line, so that a change is seen as one."""
    yield "{"
    yield '  "about": "anchors that tell a release, and parameters of what is hooked, by release. tools/pin_places.py",'
    yield f'  "releases": {json.dumps(releases)},'
    for name, table in zip(("known_by", "places"), tables, strict=True):
        yield f'  "{name}": ['
        yield ",\n".join("    " + json.dumps(row) for row in table)
        yield "  ]" + ("," if name == "known_by" else "")
    yield "}"


if __name__ == "__main__":
    sys.exit(main())
