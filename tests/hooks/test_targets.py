"""A target that does not resolve says why in the words of what failed, in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from g4diag.errors import PatchRefused
from g4diag.hooks.targets import imported, resolve, told

SAID = "first line\n  - ImportError: libcuda.so.1: cannot open shared object"
FILES = {
    "g4resolved/__init__.py": "value = 1\n",
    "g4resolved/good.py": "class A:\n    def method(self): ...\n\ndef helper(): ...\n",
    "g4resolved/helper.py": "name = 'the module'\n",
    "g4resolved/needs.py": "import g4_no_such_thing\n",
    "g4resolved/broken.py": f"raise OSError({SAID!r})\n",
    # As sglang.srt.speculative: a folder that is no regular package.
    "g4resolved/plain/inner.py": "import g4_no_such_thing\n",
}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "g4resolved"]:
        del sys.modules[name]


def test_modules_then_attributes() -> None:
    assert imported("g4resolved.value") == 1
    assert imported("g4resolved.good.A.method").__name__ == "method"
    assert imported("g4resolved.helper").name == "the module"
    assert resolve("g4resolved.good.A.method").holder is imported("g4resolved.good").A


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("g4_no_such_thing.f", "ModuleNotFoundError: No module named 'g4_no_such_thing'"),
        ("g4resolved.needs.f", "ModuleNotFoundError: No module named 'g4_no_such_thing'"),
        ("g4resolved.plain.inner.f", "ModuleNotFoundError: No module named 'g4_no_such_thing'"),
        ("g4resolved.plain.inner.A.f", "ModuleNotFoundError: No module named 'g4_no_such_thing'"),
        ("g4resolved.missing.f", "ImportError: g4resolved has no missing"),
        ("g4resolved.good.A.inner.f", "ImportError: g4resolved.good.A has no inner"),
        (
            "g4resolved.broken.f",
            "OSError: first line: ImportError: libcuda.so.1: cannot open shared object",
        ),
    ],
)
def test_the_underlying_error_is_told(path: str, found: str) -> None:
    for _ in range(2):  # a failed import leaves half of itself behind
        with pytest.raises(PatchRefused) as refused:
            resolve(path)
        assert refused.value.found == found and "\n" not in str(refused.value)


def test_an_error_that_says_nothing_is_its_class() -> None:
    assert told(ValueError()) == "ValueError" and told(ValueError("\n x\n")) == "ValueError: x"
