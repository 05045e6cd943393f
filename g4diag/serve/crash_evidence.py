"""What `g4diag serve` keeps while its server lives, so that there is something to tell when it died: the log, which
schedulers there were, and how often the kernel has killed for memory. With nothing that watches and no dump
directory given it keeps nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from g4diag.atomic_write import token
from g4diag.dump.postmortem import PostMortem
from g4diag.dump.secrets import known_values, masker
from g4diag.guard import guard
from g4diag.serve import gathering, postmortem
from g4diag.serve.keeper import Keeper
from g4diag.serve.tee import Tee
from g4diag.settings import dump_dir

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
        self._mask = masker(known_values(arguments, environ))
        if self._wanted:
            with guard("opening the server's log"):
                self._tee = Tee(self._folder / f"server-{time.time_ns()}-pid{token()}.log", mask=self._mask)
        self._schedulers: set[int] = set()
        self._gone: set[int] = set()
        self._asked = False

    def output(self) -> contextlib.AbstractContextManager[Streams]:
        """Where the server's stdout and stderr go; None: where ours do."""
        return self._teed() if self._tee else contextlib.nullcontext((None, None))

    def keeper(self, run_dir: Path) -> Keeper:
        """Who tells of the server where we are killed."""
        log = self._tee.path.name if self._tee else ""
        return Keeper(self._folder, run_dir, gathering.kept(self._environ), log, self._wanted)

    def saw(self, schedulers: set[int]) -> None:
        """Those that live just now, while the server does."""
        self._schedulers |= schedulers
        if not self._asked:
            self._gone |= self._schedulers - schedulers

    def asked(self) -> None:
        """The server has been told to stop."""
        self._asked = True

    def _end(self, status: int) -> postmortem.End:
        kills, now = self._kills, postmortem.oom_kills()
        more = None if kills is None or now is None else now - kills
        return postmortem.End(status, self._started, self._asked, tuple(sorted(self._gone)), more)

    def ended(self, status: int) -> None:
        """Say what is to be said of it. Never raises in production: the exit code is the server's."""
        end = self._end(status)
        if not (self._wanted and end.is_a_death):
            return
        with guard("writing the post-mortem"):
            log = self._tee.path.name if self._tee else ""
            self._tell(gathering.gather_in_child(end, self._folder, self._run_dir, self._environ, log))

    def interrupted(self, status: int, why: str) -> None:
        """The post-mortem shall not be waited for: tell what is known without it."""
        with guard("writing the post-mortem"):
            log = self._tee.path.name if self._tee else ""
            self._tell(gathering.bare(self._end(status), why, log))

    def _tell(self, found: PostMortem) -> None:
        # What the server was given is hidden wherever it stands, also in a ring's text that never was in the log.
        line, tail = self._mask(found.line), tuple(map(self._mask, found.log_tail))
        found = replace(found, line=line, log_tail=tail)
        self._say(postmortem.said_in_one_line(found, postmortem.write(found, self._folder)))

    @contextlib.contextmanager
    def _teed(self) -> Iterator[Streams]:
        assert self._tee is not None
        with self._tee.streams() as streams:
            yield streams
