"""Traps in any suite that uses sglang's classes: `pytest -p g4diag.pytest_plugin --g4diag=strict --g4diag-traps=all`.

Off unless asked. A test in which an invariant broke fails under `strict`, with the verdict and a dump, and is named
under `warn`. At the end each trap says how much it judged, in how many tests. Under `strict` a run in which nothing was
judged fails: it proved nothing. With pytest-xdist the workers' counts are added up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from g4diag.errors import G4DiagError
from g4diag.settings import DEFAULT_DUMP_DIR, Selection
from g4diag.verdict import verdict_line

MODES = ("off", "warn", "strict")
_NAME = "g4diag traps"
_SLUG = re.compile(r"[^\w.=-]+")
_LONGEST = 100  # characters of a test's name in its folder's


@dataclass
class Told:
    """What the traps did in one process. judged, tests: of each trap, the views that it could judge and the tests with
    one. broken: a line an invariant that broke in a test. not_armed: a line a trap that does not fit this sglang."""

    traps: list[str] = field(default_factory=list)
    judged: Counter[str] = field(default_factory=Counter)
    tests: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    not_armed: list[str] = field(default_factory=list)

    def add(self, other: dict[str, Any]) -> None:
        """Another process's, as `vars` has it."""
        self.traps = list(dict.fromkeys([*self.traps, *other["traps"]]))
        self.judged.update(other["judged"])
        self.tests.update(other["tests"])
        self.violations.update(other["violations"])
        self.broken += other["broken"]
        self.not_armed = list(dict.fromkeys([*self.not_armed, *other["not_armed"]]))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("g4diag", "g4diag: traps on sglang's KV-cache indices")
    group.addoption("--g4diag", choices=MODES, default="off", help="warn names, strict fails a test that breaks one")
    group.addoption("--g4diag-traps", default="all", metavar="NAMES", help="all, or names or groups, comma between")
    group.addoption("--g4diag-dumps", default=str(DEFAULT_DUMP_DIR), metavar="DIR", help="a folder a test in it")


def pytest_configure(config: pytest.Config) -> None:
    mode = config.getoption("--g4diag")
    if mode == "off":
        return
    from g4diag.stack.drive import sgl_kernel_stand_in
    from g4diag.stack.live.selection import selected_traps

    sgl_kernel_stand_in.install()  # where its library cannot be loaded, importing sglang would fail
    try:
        names = selected_traps(Selection.parse(config.getoption("--g4diag-traps"), "--g4diag-traps"))
    except G4DiagError as error:
        raise pytest.UsageError(f"g4diag: {error}") from error
    if not names:
        raise pytest.UsageError("g4diag: --g4diag-traps: wanted all or names of traps, found none")
    config.pluginmanager.register(Traps(names, mode == "strict", Path(config.getoption("--g4diag-dumps"))), _NAME)


class Traps:
    """Armed when all tests are collected, so that a suite's own settings come before sglang's first import."""

    def __init__(self, names: tuple[str, ...], strict: bool, dumps: Path) -> None:
        self.names, self.strict, self.dumps, self.told = names, strict, dumps, Told()
        self._held = ExitStack()
        self._live: Any = None
        self._seen: set[str] = set()  # traps that judged something in the test that runs

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.config.option.collectonly or not session.items:
            return
        from g4diag.stack.live import suite

        try:
            self._live, armed = self._held.enter_context(suite.armed(self.names, self.dumps.absolute()))
        except (G4DiagError, ImportError) as error:
            raise pytest.UsageError(f"g4diag: no trap can be armed: {error}") from error
        self.told.traps, self.told.not_armed = list(armed.traps), [refused.told for refused in armed.refused]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self._live is not None:
            self._live.begin(_SLUG.sub("-", nodeid)[-_LONGEST:].strip("-."))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        return (yield from self._watched(item, "setup"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        return (yield from self._watched(item, "call"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        return (yield from self._watched(item, "teardown"))

    def _watched(self, item: pytest.Item, when: str) -> Generator[None, None, None]:
        """A phase of a test. A failure of its own stays what is raised; what broke is told beside it."""
        if self._live is None:
            yield
            return
        before = Counter(self._live.judged)
        try:
            yield
        except BaseException:
            self._broken(item, when, before)
            raise
        if (lines := self._broken(item, when, before)) and self.strict:
            pytest.fail("\n".join(lines), pytrace=False)

    def _broken(self, item: pytest.Item, when: str, before: Counter[str]) -> list[str]:
        found = self._live.taken()
        seen = {name for name, count in self._live.judged.items() if count > before[name]}
        self._seen |= seen
        if when == "teardown":
            self.told.tests.update(self._seen)
            self._seen = set()
        lines = []
        for broken in found:
            self.told.violations[broken.violation.trap] += 1
            dump = f"; dump: {broken.dump}" if broken.dump else ""
            lines.append(f"g4diag: {item.nodeid} ({when}): {verdict_line(broken.violation)}{dump}")
        self.told.broken += lines
        if lines:
            item.add_report_section(when, "g4diag", "\n".join(lines))
        return lines

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._live is not None:
            self.told.judged = Counter(self._live.judged)
            self._held.close()
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output[_NAME] = {name: _plain(value) for name, value in vars(self.told).items()}
        elif self.strict and self.told.traps and not self.told.judged.total():
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        if (told := getattr(node, "workeroutput", {}).get(_NAME)) is not None:
            self.told.add(told)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.told.traps:
            return
        terminalreporter.section("g4diag")
        width = max(len(name) for name in self.told.traps)
        terminalreporter.write_line(f"{'trap':{width}}  {'judged':>8}  {'tests':>6}  {'broken in':>9}")
        for name in self.told.traps:
            row = f"{self.told.judged[name]:8}  {self.told.tests[name]:6}  {self.told.violations[name]:9}"
            terminalreporter.write_line(f"{name:{width}}  {row}")
        for line in self.told.not_armed:
            terminalreporter.write_line(f"not armed: {line}")
        for line in self.told.broken:
            terminalreporter.write_line(line)
        if not self.told.judged.total():
            terminalreporter.write_line("g4diag: nothing was judged: no test did anything that an armed trap looks at")


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Counter) else value
