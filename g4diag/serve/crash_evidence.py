"""What `g4diag serve` keeps while its server lives, so that there is something to tell when it died: the log, which
schedulers there were, and how often the kernel has killed for memory. With nothing that watches and no dump
directory given it keeps nothing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from g4diag.dump.secrets import known_values, masker
from g4diag.guard import guard
from g4diag.serve import postmortem
from g4diag.serve.tee import Tee
from g4diag.settings import dump_dir

_LOG_BYTES = 256 << 10
Streams = tuple[int | None, int | None]


class CrashEvidence:
    """Of one server. watched: by traps, the recorder or a core dump; without a log of its last words their evidence
    would have no cause. arguments: its command line; what is secret in it is hidden in the log."""

    def __init__(
        self,
        environ: Mapping[str, str],
        run_dir: Path,
        watched: bool,
        say: Callable[[str], None],
        arguments: Sequence[str] = (),
    ) -> None:
        given = environ.get("G4DIAG_DUMP_DIR", "").strip()
        self._folder, self._run_dir = dump_dir(environ=environ), run_dir
        self._environ, self._say, self._wanted = environ, say, watched or bool(given)
        self._started, self._kills = time.time(), postmortem.oom_kills()
        self._tee: Tee | None = None
        if self._wanted:
            with guard("opening the server's log"):
                mask = masker(known_values(arguments, environ))
                self._tee = Tee(self._folder / f"server-{time.time_ns()}-pid{os.getpid()}.log", mask=mask)
        self._schedulers: set[int] = set()
        self._gone: set[int] = set()
        self._asked = False

    def output(self) -> contextlib.AbstractContextManager[Streams]:
        """Where the server's stdout and stderr go; None: where ours do."""
        return self._teed() if self._tee else contextlib.nullcontext((None, None))

    def saw(self, schedulers: set[int]) -> None:
        """Those that live just now, while the server does."""
        self._schedulers |= schedulers
        if not self._asked:
            self._gone |= self._schedulers - schedulers

    def asked(self) -> None:
        """The server has been told to stop."""
        self._asked = True

    def ended(self, status: int) -> None:
        """Say what is to be said of it. Never raises in production: the exit code is the server's."""
        kills, now = self._kills, postmortem.oom_kills()
        more = None if kills is None or now is None else now - kills
        end = postmortem.End(status, self._started, self._asked, tuple(sorted(self._gone)), more)
        if not (self._wanted and end.is_a_death):
            return
        with guard("writing the post-mortem"):
            log, name = (self._tee.tail(_LOG_BYTES), self._tee.path.name) if self._tee else ("", "")
            found = postmortem.gather(end, self._folder, self._run_dir, self._environ, log, name)
            self._say(postmortem.said_in_one_line(found, postmortem.write(found, self._folder)))

    @contextlib.contextmanager
    def _teed(self) -> Iterator[Streams]:
        assert self._tee is not None
        with self._tee.streams() as streams:
            yield streams
