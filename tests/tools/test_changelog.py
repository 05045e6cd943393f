"""A version takes the news with it, each sentence once, and refuses what it cannot place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import changelog


def test_the_repositorys_own_news_can_be_told() -> None:
    rows = changelog.fragments(changelog.ROOT / "news")
    assert all(0 < len(path.read_text(encoding="utf-8").strip().splitlines()) == 1 for _, _, path in rows)
    assert changelog.MARK in (changelog.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_a_version_tells_each_kind_under_its_title(tmp_path: Path) -> None:
    for name, text in {"7.fix.md": "b\n", "3.feature.md": "a\n", "README.md": "no news\n"}.items():
        (tmp_path / name).write_text(text)
    rows = changelog.fragments(tmp_path)
    found = changelog.released("# Changes\n" + changelog.MARK + "\n## 0.1.0\n", "0.2.0", rows)
    assert found.index("## 0.2.0") < found.index("- a (#3)") < found.index("- b (#7)") < found.index("## 0.1.0")
    with pytest.raises(ValueError, match=r"no 0\.1\.0 yet"):
        changelog.released(found, "0.1.0", rows)
    with pytest.raises(ValueError, match="wanted news"):
        changelog.released(found, "0.3.0", [])
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(ValueError, match=r"notes\.md"):
        changelog.fragments(tmp_path)
