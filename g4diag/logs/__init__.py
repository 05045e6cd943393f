"""Logs as people keep them, read whole in one pass: streams unwrapped, events typed, stories told."""
