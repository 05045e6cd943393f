"""List a folder of contributions: one module, one upper-case constant, one row.

A plural folder has no index to edit. A module without the constant is mechanism and is skipped; one that does not
import is a row that says why, so that one broken newcomer never hides the others.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Contribution:
    """One module of a folder. name: its last dotted part. value: its constant. error: why it did not import."""

    name: str
    module: str
    value: Any = None
    error: str | None = None


def contributions(package: str, constant: str) -> list[Contribution]:
    """Rows of `package` (dotted name of a package, or of a plain directory on sys.path), sorted by module name.

    `_`-names and modules without `constant` are left out. Never raises for what the folder holds: a package or
    module that fails to import is a row with `.error`.
    """
    try:
        path = importlib.import_module(package).__path__
    except (Exception, SystemExit) as error:
        return [Contribution(package.rpartition(".")[2], package, error=_reason(error))]
    names = sorted(info.name for info in pkgutil.iter_modules(path) if not info.name.startswith("_"))
    rows = (_contribution(name, f"{package}.{name}", constant) for name in names)
    return [row for row in rows if row is not None]


def _contribution(name: str, module: str, constant: str) -> Contribution | None:
    try:
        found = importlib.import_module(module)
    # SystemExit too: a script that runs at import must not take the listing down with it.
    except (Exception, SystemExit) as error:
        return Contribution(name, module, error=_reason(error))
    if constant not in vars(found):
        return None
    return Contribution(name, module, value=vars(found)[constant])


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
