"""Which engine wrote the log, by the names of its own files and loggers; another than sglang is said to be one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from g4diag.logs.contract import EventKind, Line, Where
from g4diag.logs.tellers import Quiet
from g4diag.model.log import Chosen, Event

_ENGINES = (
    ("sglang", re.compile(r"/sglang/(?:srt|python)/|\bsglang::|/sgl-workspace/|\bServerArgs\(")),
    ("vllm", re.compile(r"/vllm/|\bVLLM::|\bvLLM\b|\bvllm\.")),
    ("tensorrt-llm", re.compile(r"/tensorrt_llm/|TensorRT-LLM")),
    ("tgi", re.compile(r"text_generation_server|text-generation-launcher")),
    ("lmdeploy", re.compile(r"/lmdeploy/")),
    (
        "torch training",
        re.compile(r"loss\.backward\(|/train\w{0,20}\.py\"|torch/_tensor\.py.{0,20}in backward|torchrun|deepspeed/"),
    ),
)


class _Teller(Quiet):
    """Each engine once, at the first line that names it."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._found: set[str] = set()

    def take(self, line: Line) -> Iterable[Event]:
        for name, sign in _ENGINES:
            if name not in self._found and sign.search(line.text[:2000]):
                self._found.add(name)
                yield Chosen(**self._where(line), key="engine", value=name)


EVENT = EventKind(
    "engine",
    (
        "sglang",
        "sgl-workspace",
        "vllm",
        "vLLM",
        "VLLM",
        "tensorrt",
        "TensorRT",
        "text.generation",
        "lmdeploy",
        "backward",
        "torchrun",
        "/train",
    ),
    _Teller,
)
