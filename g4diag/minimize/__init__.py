"""Shrink what shows a bug: the smallest sizes at which the same claim breaks in the same way, as a pytest file."""

from g4diag.minimize.case import run_case

__all__ = ["run_case"]
