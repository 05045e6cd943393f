"""Kinds of wrapping around a line, one a file: PREFIX."""
