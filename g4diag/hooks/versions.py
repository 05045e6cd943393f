"""What is installed, as a value. Reads metadata only: nothing is imported, so it answers in milliseconds."""

from __future__ import annotations

import platform
from importlib import metadata

import g4diag

DISTRIBUTIONS = ("sglang", "torch", "triton", "flashinfer-python", "sglang-kernel", "transformers", "numpy")


def version_of(distribution: str) -> str | None:
    """Installed version of a distribution, None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def installed() -> dict[str, str | None]:
    """Name -> version, None = missing: python, g4diag and DISTRIBUTIONS."""
    rows: dict[str, str | None] = {"python": platform.python_version(), "g4diag": g4diag.__version__}
    return rows | {name: version_of(name) for name in DISTRIBUTIONS}
