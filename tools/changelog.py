"""Make a version: move the sentences of `news/` under its heading in CHANGELOG.md, and set it in g4diag/__init__.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = "<!-- versions: newest first -->\n"
_TITLES = {"feature": "New", "change": "Changed", "fix": "Fixed"}
_NEWS = re.compile(r"(\d+)\.(feature|change|fix)\.md")


def fragments(folder: Path) -> list[tuple[int, str, Path]]:
    """(issue, kind, file), in the order in which they are told. ValueError for a file of another name."""
    found = []
    for path in folder.iterdir():
        named = _NEWS.fullmatch(path.name)
        if named is None and path.name != "README.md":
            raise ValueError(f"{path.name}: wanted NUMBER.feature.md, .change.md or .fix.md")
        if named is not None:
            found.append((int(named[1]), named[2], path))
    return sorted(found, key=lambda row: (list(_TITLES).index(row[1]), row[0]))


def released(changelog: str, version: str, rows: list[tuple[int, str, Path]]) -> str:
    """The changelog with a heading for `version`. ValueError where there is nothing to tell, or it is there already."""
    if not rows or changelog.count(MARK) != 1 or f"\n## {version}\n" in changelog:
        raise ValueError(f"wanted news, one mark and no {version} yet")
    parts = [f"\n## {version}\n"]
    for kind, title in _TITLES.items():
        told = [f"- {path.read_text(encoding='utf-8').strip()} (#{issue})" for issue, k, path in rows if k == kind]
        parts += [f"\n### {title}\n\n" + "\n".join(told) + "\n"] if told else []
    return changelog.replace(MARK, MARK + "".join(parts))


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not re.fullmatch(r"\d+\.\d+\.\d+", arguments[0]):
        print("usage: tools/changelog.py VERSION, as 0.2.0", file=sys.stderr)
        return 2
    version, rows = arguments[0], fragments(ROOT / "news")
    changelog, package = ROOT / "CHANGELOG.md", ROOT / "g4diag" / "__init__.py"
    changelog.write_text(released(changelog.read_text(encoding="utf-8"), version, rows), encoding="utf-8")
    source = package.read_text(encoding="utf-8")
    package.write_text(re.sub(r'__version__ = "[^"]+"', f'__version__ = "{version}"', source), encoding="utf-8")
    for _, _, path in rows:
        path.unlink()
    print(f"{version}: {len(rows)} news moved to CHANGELOG.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
