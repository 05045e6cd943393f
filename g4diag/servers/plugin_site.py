"""Make g4diag's sglang plugin loadable where g4diag is only on PYTHONPATH, not installed.

sglang finds plugins by entry point, and an entry point needs a dist-info. On a machine that has a bare checkout (a
lent GPU machine, a container with the source mounted) this writes the least of one into a directory of its own;
putting that directory and the checkout on PYTHONPATH is then as good as an install, in every process of the server.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import g4diag

GROUP, NAME = "sglang.srt.plugins", "g4diag"
ROOT = Path(g4diag.__file__).resolve().parents[1]


def python_path(directory: Path) -> tuple[str, ...]:
    """Directories a child process needs on PYTHONPATH, in order; writes the dist-info to `directory` if this
    environment has no entry point of ours."""
    if metadata.entry_points(group=GROUP, name=NAME):
        return (str(ROOT),)
    return (str(write_dist_info(directory)), str(ROOT))


def write_dist_info(directory: Path) -> Path:
    """`directory`, holding g4diag-VERSION.dist-info with a name, a version and the one entry point."""
    info = directory / f"g4diag-{g4diag.__version__}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: g4diag\nVersion: {g4diag.__version__}\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{NAME} = g4diag.plugin:register\n")
    (info / "INSTALLER").write_text("g4diag.servers.plugin_site\n")
    return directory
