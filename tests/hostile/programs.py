"""Hostile pickle programs in torch archives: what would call something, what asks for much, and what lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile.assembler import PROTO, STORAGES, Raw, Tensor, archive, code, dump, name, program, read, saved, text

Files = Iterator[tuple[str, bytes]]


def running_code(canary: Path) -> Files:
    """Every way a pickle has to call something, in a torch archive; then bare."""
    call = f"touch {canary}"
    system, argument = name("os", "system"), text(call)
    short = b"\x8c" + bytes([len(call)]) + call.encode()
    nested = PROTO + system + b"(" + argument + b"tR."
    programs = {
        "global-reduce": nested,
        "posix-reduce": PROTO + name("posix", "system") + b"(" + argument + b"tR.",
        "builtins-eval": PROTO + name("builtins", "eval") + b"(" + text(f"open({str(canary)!r},'w')") + b"tR.",
        "stack-global": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + short + b"\x85R.",
        "inst": PROTO + b"(" + argument + b"ios\nsystem\n.",
        "obj": PROTO + b"(" + system + argument + b"o.",
        "newobj": PROTO + system + b"(" + argument + b"t\x81.",
        "newobj-ex": b"\x80\x04" + system + b"(" + argument + b"t}\x92.",
        "build": PROTO + name("collections", "OrderedDict") + b")R}" + text("__dict__") + system + b"sb.",
        "extension": PROTO + b"\x82\x01(" + argument + b"tR.",
        "getattr": PROTO + name("builtins", "getattr") + b"(" + name("os", "path") + text("os") + b"tR.",
        "nested-load": PROTO
        + name("torch.storage", "_load_from_bytes")
        + b"("
        + text(nested.decode("latin1"))
        + b"tR.",
        "hub": PROTO + name("torch.hub", "load") + b"(" + text("a/b") + text("c") + b"tR.",
        "storage-of-a-function": PROTO + b"(" + text("storage") + system + text("0") + text("cpu") + code(8) + b"tQ.",
        "persistent-text": PROTO + b"Pstorage\n.",
        "after-stop": program({"a": 1}) + nested,
        "inside-a-tensor": PROTO + name("torch._utils", "_rebuild_tensor_v2") + b"(" + nested[2:-1] + b"tR.",
    }
    yield from ((f"pickle-{key}.pt", archive(body, STORAGES)) for key, body in programs.items())
    yield "bare-pickle.pt", nested
    keys = code({"server_args": None, "requests": [], "launch_command": "x"})
    yield "crash_dump_2026-01-01_00-00-00.pkl", PROTO + keys + nested[2:]
    yield "old-torch.pt", PROTO + b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + nested


def programs() -> Files:
    """Programs that call nothing and ask for much."""
    lists, tuples = b"]q\x00", b")q\x00"
    for n in range(40):
        lists = b"](" + lists + b"h" + bytes([n]) + b"eq" + bytes([n + 1])
        tuples += b"h" + bytes([n]) + b"\x86q" + bytes([n + 1])
    collide = b"".join(code(n * (2**61 - 1)) + b"N" for n in range(1, 1000))
    bodies = {
        "laughs-lists": program(dump(context={"x": Raw(lists)})),
        "laughs-tuples": program(dump(context={"x": Raw(tuples)})),
        "list-in-itself": program(dump(context=Raw(b"}q\x00" + text("x") + b"h\x00s"))),
        "deep-tuple-key": PROTO + b"}" + b")" + b"\x85" * 500_000 + b"Ns.",
        "colliding-keys": PROTO + b"}(" + collide + b"u.",
        "long-of-2-gib": PROTO + b"\x8b\xff\xff\xff\x7f" + b"\x01" * 64 + b".",
        "long-of-255-bytes": PROTO + b"\x8a\xff" + b"\x7f" * 255 + b".",
        "decimal-of-a-million": PROTO + b"L" + b"9" * 1_000_000 + b"L\n.",
        "text-of-4-gib": PROTO + b"X\xff\xff\xff\xff" + b"a" * 64 + b".",
        "frame-of-2-exbi": b"\x80\x04\x95" + b"\xff" * 7 + b"\x1f" + b"N.",
        "memo-far": PROTO + b"Nr\xff\xff\xff\xffj\xff\xff\xff\x7f.",
        "a-million-opcodes": PROTO + b"]" * 2_000_000 + b".",
        "a-million-keys": program(
            {str(n): None for n in range(1_000_000 // 8)}
            | dump(context={}, versions=Raw(b"}(" + b"".join(text(str(n)) + text("x") for n in range(60_000)) + b"u"))
        ),
        "underflow": PROTO + b"uuu.",
        "no-stop": PROTO + b"}",
        "empty": b"",
    }
    yield from ((f"program-{key}.pt", archive(body, STORAGES)) for key, body in bodies.items())


def tensors() -> Files:
    """Documents of ours with a tensor or a number that lies."""

    def table(*given: Any, **more: Any) -> bytes:
        return saved(dump(reads=[read(page_table_BP=Tensor(*given, **more))]), STORAGES)

    yield "tensor-shape.pt", table("0", 8, (1 << 39, 4), (4, 1))
    yield "tensor-strides.pt", table("0", 8, (2, 4), (1 << 39, 1))
    yield "tensor-overlap.pt", table("0", 8, (1 << 30, 1 << 9), (0, 0))
    yield "tensor-negative-offset.pt", table("0", 8, (2, 4), (4, 1), offset=-8)
    yield "tensor-negative-stride.pt", table("0", 8, (2, 4), (-4, 1))
    yield "tensor-storage.pt", table("0", 1 << 39, (2, 4), (4, 1))
    yield "tensor-count-of-text.pt", table("0", "8", (2, 4), (4, 1))
    yield "tensor-count-nan.pt", table("0", float("nan"), (2, 4), (4, 1))
    yield "tensor-dimensions.pt", table("0", 8, (1,) * 5000, (0,) * 5000)
    yield "tensor-of-nothing.pt", table("0", 8, (0, 1 << 39), (1, 1))
    yield "tensor-dtype.pt", table("0", 8, (2, 4), (4, 1), kind="QInt8Storage")
    yield "tensor-floats.pt", table("0", 8, (2, 4), (4, 1), kind="FloatStorage")
    yield "tensor-key.pt", table("../../../etc/passwd", 8, (2, 4), (4, 1))
    pool = read()["pool"]
    odd: dict[str, Any] = {
        "page-size-0": {"pool": pool | {"page_size": 0}},
        "pages-negative": {"pool": pool | {"num_pages": -1}},
        "pages-2-to-the-70": {"pool": pool | {"num_pages": 1 << 70}},
        "space": {"pool": pool | {"space": "\x1b]0;owned\x07<script>alert(1)</script>"}},
        "rows": {"seq_lens_B": Tensor("0", 8, (8,), (1,))},
        "many-rids": {"rids": ["r"] * 100_000},
        "rid-of-a-mebibyte": {"rids": ["r" * (1 << 20)]},
    }
    yield from ((f"field-{key}.pt", saved(dump(reads=[read(**change)]), STORAGES)) for key, change in odd.items())
    yield "field-nan.pt", saved(dump(context={"x": float("nan")}), STORAGES)
    yield "field-version.pt", saved(dump(version=99), STORAGES)
    yield "field-many-reads.pt", saved(dump(reads=[None] * 100_000), STORAGES)
    yield "keys-that-act.pt", saved({"\x1b[2J\x1b]8;;http://x\x07": 1, "<img src=x onerror=alert(1)>": 2, "\u202e": 3})
    large = {"0": bytes(4 << 23), "1": STORAGES["1"] * 8}
    shared = Tensor("0", 1 << 23, (1 << 4, 1 << 19), (1 << 19, 1))
    busy = code(read(page_table_BP=shared, seq_lens_B=Tensor("1", 16, (1 << 4,), (1,)))) + b"q\x00"
    yield "work.pt", saved(dump(reads=[Raw(busy), *[Raw(b"h\x00")] * 1000]), large)
