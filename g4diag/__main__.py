"""`python -m g4diag`: the console script where there is none, such as a checkout on PYTHONPATH."""

from __future__ import annotations

from g4diag.cli.main import main

if __name__ == "__main__":
    main()
