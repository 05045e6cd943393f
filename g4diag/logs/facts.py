"""What a log tells of the server that wrote it: release, model, backends, speculation, sizes, and the use of its pools.

A fact that the log does not tell is "" or None. Flags are named as on sglang's command line, so that hazards can be
judged by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from g4diag.logs.kernels import Kernel, kernel
from g4diag.model.log import (
    Batch,
    Batches,
    Chosen,
    DeviceSaid,
    Event,
    Frame,
    KernelSaid,
    PoolAudit,
    Raised,
    ServerArgs,
    Stack,
)

# Python files of an attention backend -> the names by which sglang's flags call it.
_BACKEND_FILES = {
    "trtllm_mha_backend.py": ("trtllm_mha",),
    "trtllm_mla_backend.py": ("trtllm_mla",),
    "flashattention_backend.py": ("fa3", "fa4"),
    "flashinfer_backend.py": ("flashinfer",),
    "flashinfer_mla_backend.py": ("flashinfer",),
    "triton_backend.py": ("triton",),
    "torch_native_backend.py": ("torch_native",),
    "flex_attention_backend.py": ("flex_attention",),
    "cutlass_mla_backend.py": ("cutlass_mla",),
    "flashmla_backend.py": ("flashmla",),
    "aiter_backend.py": ("aiter",),
    "wave_backend.py": ("wave",),
    "intel_amx_backend.py": ("intel_amx",),
    "nsa_backend.py": ("nsa",),
}
_WORKERS = (
    ("frozen_kv_mtp", "frozen_kv_mtp"),
    ("eagle", "eagle"),
    ("ngram", "ngram"),
    ("standalone_worker", "standalone"),
    ("multi_layer_eagle", "eagle"),
)
_GEMMA4 = re.compile(r"gemma-?_?4|Gemma4", re.I)
_WINDOWED = re.compile(
    r"gemma-?_?[234]|Gemma[234]|gpt-?oss|GptOss|llama-?4|Llama4|mimo|olmo-?3|step-?3|cohere2|command-r7b", re.I
)
_PHASES = (
    ("capture", re.compile(r"capture|_dummy_run|profile_run|init_cuda_graph|warmup")),
    ("replay", re.compile(r"^replay$")),
    ("verify", re.compile(r"verify")),
    ("draft", re.compile(r"^draft$|draft_forward|forward_draft|draft_extend")),
    ("prefill", re.compile(r"forward_extend|forward_prefill|prefill")),
    ("decode", re.compile(r"forward_decode|decode")),
)


@dataclass(frozen=True)
class LogFacts:
    """engine: "sglang", "vllm" and the like. release: of that engine. flags: name without dashes -> value, "" for a
    switch; only what was given and is not None or False. attention: backends by name, those that are in use as far as
    told. algorithm: of speculation, lower case, after a promotion. promoted: as "NEXTN to FROZEN_KV_MTP". gemma4,
    windowed: of the target, None if not told. full_use, swa_use, accept: the last before the first crash. files,
    functions: Python frames of the crashes, innermost last. messages: what killed. kernels: those named. phases: what
    a frame's name tells of what ran. told: fact -> the line that tells it, as "server.log:1". args_seen: the server's
    arguments are in the log, so that a flag that is not in `flags` was not given."""

    engine: str = ""
    release: str = ""
    model: str = ""
    architecture: str = ""
    flags: Mapping[str, str] = field(default_factory=dict)
    args_seen: bool = False
    attention: tuple[str, ...] = ()
    draft_backend: str = ""
    algorithm: str = ""
    promoted: str = ""
    topk: int | None = None
    steps: int | None = None
    draft_tokens: int | None = None
    page_size: int | None = None
    swa_ratio: float | None = None
    tp: int | None = None
    dp: int | None = None
    ep: int | None = None
    pp: int | None = None
    gemma4: bool | None = None
    windowed: bool | None = None
    launch_blocking: bool | None = None
    gpu: str = ""
    full_use: float | None = None
    swa_use: float | None = None
    accept: float | None = None
    files: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    phases: tuple[str, ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)

    def words(self) -> dict[str, frozenset[str]]:
        """The facts that a known issue can ask for, in `hazards.facts`'s words; one not told has no key."""
        found: dict[str, set[str]] = {
            "algorithm": {self.algorithm} if self.algorithm else {"none"} if self.args_seen else set(),
            "attention": set(self.attention),
            "drafts_on": {self.draft_backend} if self.draft_backend else set(),
        }
        if self.algorithm or self.args_seen:
            found["speculates"] = {"yes" if self.algorithm else "no"}
        if self.algorithm and "frozen" in self.algorithm:
            found["draft"] = {"frozen-kv"}
        if self.topk is not None or (self.args_seen and self.algorithm):
            found["topk"] = {"tree" if (self.topk or 1) > 1 else "chain"}
        if self.page_size is not None:
            found["page"] = {"larger" if self.page_size > 1 else "1"}
        if self.gemma4 is not None:
            found["model"] = {"gemma4" if self.gemma4 else "other"}
        if self.windowed is not None:
            found["windows"] = {"yes" if self.windowed else "no"}
        found |= self._of_flags() if self.args_seen else {}
        return {key: frozenset(values) for key, values in found.items() if values}

    def _of_flags(self) -> dict[str, set[str]]:
        flags = self.flags
        off = any(name in flags for name in ("disable-cuda-graph", "disable-decode-cuda-graph"))
        return {
            "graphs": {"off"} if off else set(),
            "radix": {"off" if "disable-radix-cache" in flags else "on"},
            "disaggregation": {flags.get("disaggregation-mode", "null")},
            "kv": {"fp8" if flags.get("kv-cache-dtype", "").startswith("fp8") else "other"},
        }


def of(events: Sequence[Event]) -> LogFacts:
    """The facts of a log's events."""
    args = [event for event in events if isinstance(event, ServerArgs)]
    chosen = {event.key: event for event in reversed(events) if isinstance(event, Chosen)}
    frames = tuple(_frames(events))
    values = dict(args[-1].values) if args else {}
    flags = {
        name.replace("_", "-"): "" if v == "True" else v for name, v in values.items() if v not in ("None", "False", "")
    }
    promoted = chosen["promoted"].value if "promoted" in chosen else ""
    model = values.get("model_path") or values.get("model") or ""
    architecture = chosen["architecture"].value if "architecture" in chosen else ""
    draft = chosen["draft_architecture"].value if "draft_architecture" in chosen else ""
    last = _last_batch(events)
    return LogFacts(
        engine=_engine(events, bool(values.get("model_path"))),
        release=next((chosen[key].value for key in ("sglang", "vllm") if key in chosen), ""),
        model=model,
        architecture=architecture,
        flags=flags,
        args_seen=len(values) > 1,
        attention=_attention(flags, chosen, frames),
        draft_backend=flags.get("speculative-draft-attention-backend", ""),
        algorithm=_algorithm(flags, promoted, frames),
        promoted=promoted,
        topk=_int(flags.get("speculative-eagle-topk")),
        steps=_int(flags.get("speculative-num-steps")),
        draft_tokens=_int(flags.get("speculative-num-draft-tokens")),
        page_size=_int(flags.get("page-size")),
        swa_ratio=_float(flags.get("swa-full-tokens-ratio")),
        **{key: _int(flags.get(f"{key}-size") or flags.get(f"{key}")) for key in ("tp", "dp", "ep", "pp")},
        gemma4=_told(_GEMMA4, (model, architecture), (draft, *_names(frames))),
        windowed=_told(_WINDOWED, (model, architecture), (draft,)) or _has_swa_pool(events),
        launch_blocking=chosen["launch_blocking"].value == "1" if "launch_blocking" in chosen else None,
        gpu=chosen["gpu"].value if "gpu" in chosen else "",
        full_use=_use(last, "full_use"),
        swa_use=_use(last, "swa_use"),
        accept=_use(last, "accept"),
        files=tuple(dict.fromkeys(_names(frames))),
        functions=tuple(dict.fromkeys(frame.function for frame in frames)),
        messages=tuple(f"{event.killed.name}: {event.killed.message}" for event in events if isinstance(event, Raised)),
        kernels=tuple(_kernels(events)),
        phases=tuple(name for name, sign in _PHASES if any(sign.search(frame.function) for frame in frames)),
        told={key: event.source for key, event in chosen.items()} | ({"args": args[-1].source} if args else {}),
    )


def _frames(events: Iterable[Event]) -> Iterable[Frame]:
    for event in events:
        if isinstance(event, Raised):
            yield from (frame for link in event.chain for frame in link.frames)
        elif isinstance(event, Stack) and (event.main or event.current):
            yield from reversed(event.frames)


def _names(frames: Iterable[Frame]) -> Iterable[str]:
    return (frame.path.replace("\\", "/").rpartition("/")[2] for frame in frames)


def _engine(events: Sequence[Event], has_model_path: bool) -> str:
    named = [event.value for event in events if isinstance(event, Chosen) and event.key == "engine"]
    for name in ("sglang", "vllm"):
        if name in named:
            return name
    return "sglang" if has_model_path else named[0] if named else ""


def _attention(flags: Mapping[str, str], chosen: Mapping[str, Chosen], frames: Sequence[Frame]) -> tuple[str, ...]:
    names = ("prefill-attention-backend", "decode-attention-backend", "attention-backend")
    found = [flags[name] for name in names if flags.get(name)]
    if not found and "attention_backend" in chosen:
        found = [chosen["attention_backend"].value.lower()]
    if not found:
        found = [name for file in dict.fromkeys(_names(frames)) for name in _BACKEND_FILES.get(file, ())]
    return tuple(dict.fromkeys(found))


def _algorithm(flags: Mapping[str, str], promoted: str, frames: Sequence[Frame]) -> str:
    if promoted:
        return promoted.partition(" to ")[2].lower()
    if given := flags.get("speculative-algorithm"):
        return given.lower()
    names = [name for name in _names(frames) if name.endswith(".py")]
    return next((algorithm for sign, algorithm in _WORKERS if any(sign in name for name in names)), "")


def _told(sign: re.Pattern[str], names: Iterable[str], hints: Iterable[str]) -> bool | None:
    """Whether any says so. None where neither a hint does nor a model is named; a path of the user's own names none."""
    if any(sign.search(text) for text in (*names, *hints)):
        return True
    return False if any("/" in name and not name.startswith(("/", ".", "~")) for name in names) else None


def _has_swa_pool(events: Iterable[Event]) -> bool | None:
    """True where a decode line or an audit names an SWA pool; None where none does."""
    for event in events:
        if isinstance(event, Batches) and any(batch.swa_use >= 0 for batch in event.samples):
            return True
        if isinstance(event, PoolAudit) and any(pool.pool == "swa" for pool in event.pools):
            return True
    return None


def _last_batch(events: Sequence[Event]) -> Batch | None:
    """The last decode line before the first crash, of any process."""
    crash = next((event.line for event in events if isinstance(event, Raised | DeviceSaid)), None)
    samples = [batch for event in events if isinstance(event, Batches) for batch in event.samples]
    before = [batch for batch in samples if crash is None or batch.line < crash]
    return max(before, key=lambda batch: batch.line, default=None)


def _use(batch: Batch | None, name: str) -> float | None:
    value = getattr(batch, name, -1.0)
    return value if value >= 0 else None


def _kernels(events: Iterable[Event]) -> Iterable[Kernel]:
    for event in events:
        if isinstance(event, KernelSaid | DeviceSaid) and event.kernel:
            yield kernel(event.kernel)
        elif isinstance(event, Raised) and event.device and event.device.function:
            yield kernel(event.device.function)


def _int(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d{1,12}", text) else None


def _float(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
