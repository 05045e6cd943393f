"""Directories that FlashInfer's and sglang's kernel loggers left: written by the real ones, then made hostile."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from g4diag.analyzers.judging import judge
from g4diag.dump import kernel_call
from g4diag.dump.api_dump import ApiDump, read_calls
from g4diag.model import IndexSpace, LayerKind
from g4diag.verdict import verdict_line

pytest.importorskip("flashinfer")
PROGRAM = Path(__file__).with_name("kernel_calls.py")
DECODE = "trtllm_batch_decode_with_kv_cache"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """healthy/ and dead/, each with flashinfer/ and sglang/; dead/ has safetensors for FlashInfer."""
    root = tmp_path_factory.mktemp("calls")
    running = []
    for what, safetensors, code in (("healthy", "0", 0), ("dead", "1", 7)):
        loggers = {
            "FLASHINFER_LOGLEVEL": "10",
            "FLASHINFER_LOGDEST": str(root / "flashinfer.log"),
            "FLASHINFER_DUMP_DIR": str(root / what / "flashinfer"),
            "FLASHINFER_DUMP_SAFETENSORS": safetensors,
            "SGLANG_KERNEL_API_LOGLEVEL": "10",
            "SGLANG_KERNEL_API_LOGDEST": str(root / "sglang.log"),
            "SGLANG_KERNEL_API_DUMP_DIR": str(root / what / "sglang"),
        }
        command = [sys.executable, str(PROGRAM), what]
        child = subprocess.Popen(command, env={**os.environ, **loggers}, stdout=subprocess.DEVNULL)
        running.append((child, code))
    assert [child.wait(timeout=120) for child, _ in running] == [code for _, code in running]
    return root


def calls_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def read(folder: Path) -> ApiDump:
    (dump,), notes = read_calls(calls_in(folder))
    assert not notes
    return dump


def notes_of(dump: ApiDump) -> str:
    return "\n".join(text for _, text in dump.incident.notes)


@pytest.mark.parametrize("logger", ["flashinfer", "sglang"])
def test_healthy_calls_are_read_and_clean(written: Path, logger: str) -> None:
    dump = read(written / "healthy" / logger)
    decode, context, flash = dump.incident.reads
    assert dump.origin == f"{logger}-dump" and dump.incident.context["calls"] == 4
    for made in (decode, context, flash):
        assert (made.pool.num_pages, made.pool.page_size, made.pool.space) == (154, 64, IndexSpace.SWA_PAGE)
        assert made.layer_kind is LayerKind.SWA and made.layer_id == kernel_call.UNKNOWN_LAYER
        assert made.seq_lens_B.tolist() == [4000, 100] and int(made.live_BP().sum()) >= 4
    assert [made.window_left for made in (decode, context, flash)] == [128, 110, 128]
    assert [made.phase for made in (decode, context, flash)] == ["decode", "extend", ""]
    # Rows of 4 and 2 queries: judged for 2, so that what is stale for one of them is not blamed.
    assert context.q_len == 2 and "rows ask 2 to 4 queries" in notes_of(dump)
    assert "the last logged call came back" in notes_of(dump)
    judgement = judge(dump.incident)
    assert not judgement.hits and judgement.checked >= 12 and not judgement.errors


@pytest.mark.parametrize("logger", ["flashinfer", "sglang"])
def test_the_call_that_never_came_back_is_judged(written: Path, logger: str) -> None:
    dump = read(written / "dead" / logger)
    assert f"it never returned: {calls_in(written / 'dead' / logger)[-1].name}" in notes_of(dump)
    (hit,) = judge(dump.incident).hits
    assert "page 189 at row 0 column 61: 36 past the last of 154 pages" in verdict_line(hit.violation)
    assert len(dump.incident.reads) == 2 and dump.incident.log[-1].text.endswith("inputs_saved")
    assert dump.incident.log[-1].time is not None


def test_argument_places_are_the_real_functions() -> None:
    homes = {
        DECODE: ("flashinfer", "decode.py"),
        "trtllm_batch_context_with_kv_cache": ("flashinfer", "prefill.py"),
        "flash_attn_with_kvcache": ("sglang", "*/**/flash_attention_v3.py"),  # jit_kernel, later kernels/ops/attention
    }
    assert set(homes) == set(kernel_call._KERNELS)
    for name, (package, file) in homes.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            pytest.skip(f"no {package}")
        (found,) = Path(spec.submodule_search_locations[0]).glob(file)
        source = found.read_text(encoding="utf-8")
        (real,) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name]
        names = [argument.arg for argument in real.args.args]
        assert {argument: names.index(argument) for argument in kernel_call._KERNELS[name].places} == dict(
            kernel_call._KERNELS[name].places
        )


@pytest.fixture
def one(written: Path, tmp_path: Path) -> Path:
    """A copy of the faulty FlashInfer call, in safetensors."""
    return Path(shutil.copytree(calls_in(written / "dead" / "flashinfer")[-1], tmp_path / "call0002"))


@pytest.fixture
def one_pt(written: Path, tmp_path: Path) -> Path:
    """The same of a healthy call, as torch.save wrote it."""
    (found,) = [path for path in calls_in(written / "healthy" / "flashinfer") if DECODE in path.name]
    return Path(shutil.copytree(found, tmp_path / "call0001"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "metadata.jsonl"
    record = json.loads(path.read_text().splitlines()[-1])
    changed = change(record)
    path.write_text(json.dumps(record if changed is None else changed) + "\n")


def refused(folder: Path) -> str:
    """The note of a directory none of whose calls could be judged."""
    dumps, notes = read_calls([folder])
    assert not any(dump.incident.reads for dump in dumps)
    said = [text for _, text in notes] + [text for dump in dumps for _, text in dump.incident.notes]
    (found,) = [text for text in said if "not read" in text or "nothing to judge" in text]
    assert "\n" not in found and len(found) < 600
    return found


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda record: record.pop("function_name") and None, "function_name"),
        (lambda record: record.update(process_id="1"), "process_id"),
        (lambda record: record.update(execution_status=["x"] * 9), "execution_status"),
        (lambda record: record["tensor_details"]["arg_3"].update(shape=[2, 1 << 30]), "as its metadata says"),
        (lambda record: record["tensor_details"]["arg_3"].update(shape=[-2, 64]), "a tensor's shape"),
        (lambda record: record["tensor_details"]["arg_3"].update(shape=[1] * 99), "a tensor's shape"),
        (lambda record: record["input_metadata"].update(arg_8=-7), "window_left"),
        (lambda record: record["input_metadata"].update(kwarg_kv_layout="\x1b[2J" * 50), "HND or NHD"),
    ],
)
def test_lying_metadata_is_refused(one: Path, change: Callable[[dict[str, Any]], Any], why: str) -> None:
    rewrite(one, change)
    assert why in refused(one)


@pytest.mark.parametrize("raw", [b"", b"[]\n", b"{" * 5000, b"\xff\xfe\n", b'{"a": ' + b"9" * 5000 + b"}"])
def test_metadata_that_is_none_is_refused(one: Path, raw: bytes) -> None:
    (one / "metadata.jsonl").write_bytes(raw)
    refused(one)


def test_a_line_cut_off_with_the_process_is_left_out(one: Path) -> None:
    with (one / "metadata.jsonl").open("ab") as file:
        file.write(b'{"function_name": "x", "execution_sta')
    (dump,), _ = read_calls([one])
    assert len(dump.incident.reads) == 1


def test_paths_in_the_metadata_are_never_followed(one: Path, tmp_path: Path) -> None:
    shutil.move(one / "inputs.safetensors", tmp_path / "inputs.safetensors")
    tricks = {"dump_dir": str(tmp_path), "graph_capture_snapshot_dir": "..", "tensor_format": "../../etc/passwd"}
    rewrite(one, lambda record: record.update(tricks))
    assert "no block_tables" in refused(one)
    (one / "inputs.safetensors").symlink_to(tmp_path / "inputs.safetensors")
    assert "a link: not followed" in refused(one)


def test_no_byte_of_the_cache_is_read(one: Path, one_pt: Path) -> None:
    """The K/V in the file is torn, which only reading it would tell; then it is gigabytes, which reading would cost."""
    path = one_pt / "inputs.pt"
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"\0" * 4096, largest.header_offset) + 1000
    raw[at : at + 8] = b"\xff" * 8
    path.write_bytes(raw)
    with zipfile.ZipFile(path) as archive, pytest.raises(zipfile.BadZipFile):
        archive.read(largest.filename)
    (dump,), _ = read_calls([one_pt])
    assert len(dump.incident.reads) == 1 and not judge(dump.incident).hits

    path = one / "inputs.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    name = max(header, key=lambda key: header[key]["data_offsets"][1] - header[key]["data_offsets"][0])
    moved = len(raw) - 8 - length
    header[name] = {**header[name], "data_offsets": [moved, moved + (4 << 30)]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + raw[8 + length :])
        file.truncate(8 + len(text) + moved + (4 << 30))
    (dump,), _ = read_calls([one])
    assert len(dump.incident.reads) == 1


def header_of(rows: dict[str, Any], data: bytes = bytes(64)) -> bytes:
    text = json.dumps(rows).encode()
    return len(text).to_bytes(8, "little") + text + data


ROW = {"dtype": "I32", "shape": [2, 4], "data_offsets": [0, 32]}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(8),
        (1 << 62).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"[[[[",
        header_of({"arg_3": {**ROW, "data_offsets": [0, 1 << 40]}}),
        header_of({"arg_3": {**ROW, "data_offsets": [32, 0]}}),
        header_of({"arg_3": {**ROW, "data_offsets": [True, 32]}}),
        header_of({"arg_3": {**ROW, "shape": [1 << 50]}}),
        header_of({"arg_3": {**ROW, "shape": "2"}}),
        header_of({"arg_3": 7}),
        header_of({str(i): ROW for i in range(5000)}),
        (40).to_bytes(8, "little") + b'{"a": 1, "a": 2}'.ljust(40),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(one: Path, raw: bytes) -> None:
    (one / "inputs.safetensors").write_bytes(raw)
    refused(one)


@pytest.mark.parametrize("dtype", ["F32", "I64", "U8"])
def test_a_table_of_another_type_than_it_says_is_refused(one: Path, dtype: str) -> None:
    path = one / "inputs.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["arg_3"]["dtype"] = dtype
    path.write_bytes(header_of(header, raw[8 + length :]))
    assert "wanted" in refused(one)


@pytest.mark.parametrize("at", [0, 5, 100, 2000, -3000, -40])
def test_a_torn_tensor_file_is_refused(one_pt: Path, at: int) -> None:
    path = one_pt / "inputs.pt"
    path.write_bytes(path.read_bytes()[:at])
    refused(one_pt)


@pytest.mark.parametrize("name", ["metadata.jsonl", "inputs.pt", "inputs.safetensors"])
def test_flipped_bytes_are_refused_or_harmless(name: str, one: Path, one_pt: Path) -> None:
    """Anywhere but in the cache, which is not looked at."""
    folder = one if name == "inputs.safetensors" else one_pt
    good, rng = (folder / name).read_bytes(), random.Random(0)
    places = [at for at in range(len(good)) if good[at]]
    for _ in range(150):
        bad = bytearray(good)
        for at in rng.sample(places, 3):
            bad[at] = rng.randrange(256)
        (folder / name).write_bytes(bad)
        dumps, notes = read_calls([folder])
        for dump in dumps:
            judge(dump.incident)
        assert all("\n" not in text for _, text in notes)


def test_an_archive_with_a_huge_directory_is_refused_unread(one_pt: Path) -> None:
    with zipfile.ZipFile(one_pt / "inputs.pt", "w") as archive:
        for i in range(20_000):
            archive.writestr(f"x/data/{i}", b"")
    start = time.monotonic()
    assert "wanted an archive directory of" in refused(one_pt)
    assert time.monotonic() - start < 1


def test_metadata_alone_cannot_be_judged_and_says_so(one_pt: Path) -> None:
    (one_pt / "inputs.pt").unlink()
    assert "no block_tables, seq_lens" in refused(one_pt)
