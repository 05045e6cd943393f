"""Kinds of events in a log, one a file: EVENT."""
