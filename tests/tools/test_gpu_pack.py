"""`tools/gpu_pack.py` cuts an archive into parts that travel, and loses nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "gpu_pack.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_pack", TOOL)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("sizes", "parts"), [((10, 7), 5), ((8, 4), 3), ((3,), 1), ((), 0)])
def test_parts_make_the_archive(tool: ModuleType, sizes: tuple[int, ...], parts: int, tmp_path: Path) -> None:
    whole = b""
    for index, size in enumerate(sizes):
        (tmp_path / f"part.{index:02d}").write_bytes(piece := bytes(range(len(whole), len(whole) + size)))
        whole += piece
    assert tool.cut(sorted(tmp_path.glob("part.*")), tmp_path, 4) == parts and not list(tmp_path.glob("part.*"))
    made = sorted(tmp_path.glob("q*/part.*"))
    assert (
        [path.parent.name[1:] for path in made]
        == [path.suffix[1:] for path in made]
        == [f"{i:02d}" for i in range(parts)]
    )
    assert b"".join(path.read_bytes() for path in made) == whole and all(len(p.read_bytes()) <= 4 for p in made)
