"""Deterministic scenarios, one a file: each shows a bug by name on the real stack, and the cures that hold."""
