"""Shapes of a broken view: what the bad values have in common, one question a file, as words a known issue asks for."""
