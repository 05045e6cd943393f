"""Run as a program: calls of attention kernels under FlashInfer's and sglang's real loggers, on the CPU.

Arguments: the folder, then what to do. Each call stands for a kernel: same name, same arguments, no work. The loggers
take their directories from the environment, so it is run with them set. `die` leaves inside the last call.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import torch
from flashinfer.api_logging import flashinfer_api

PAGES, PAGE, COLUMNS = 154, 64, 64
SEQ_LENS = (4000, 100)


def _sglang_logger() -> Any:
    """sglang's module by its file: importing the package takes 10 seconds, and the logger needs none of it."""
    package = importlib.util.find_spec("sglang")
    assert package is not None and package.submodule_search_locations
    # Its second home is that of 0.5.18 and later.
    homes = [os.path.join(package.submodule_search_locations[0], folder) for folder in ("", "kernels")]
    path = next(filter(os.path.exists, (os.path.join(home, "kernel_api_logging.py") for home in homes)))
    spec = importlib.util.spec_from_file_location("kernel_api_logging", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_debug_kernel_api = _sglang_logger().debug_kernel_api


@_debug_kernel_api
@flashinfer_api
def trtllm_batch_decode_with_kv_cache(
    query: Any,
    kv_cache: Any,
    workspace_buffer: Any,
    block_tables: Any,
    seq_lens: Any,
    max_seq_len: int,
    bmm1_scale: float = 1.0,
    bmm2_scale: float = 1.0,
    window_left: int = -1,
) -> Any:
    if max_seq_len == 0:
        os._exit(7)
    return query


@_debug_kernel_api
@flashinfer_api
def trtllm_batch_context_with_kv_cache(
    query: Any,
    kv_cache: Any,
    workspace_buffer: Any,
    block_tables: Any,
    seq_lens: Any,
    max_q_len: int,
    max_kv_len: int,
    bmm1_scale: float,
    bmm2_scale: float,
    batch_size: int,
    cum_seq_lens_q: Any,
    cum_seq_lens_kv: Any,
    window_left: int = -1,
) -> Any:
    return query


@_debug_kernel_api
@flashinfer_api
def flash_attn_with_kvcache(q: Any, k_cache: Any, v_cache: Any, **more: Any) -> Any:
    return q


@_debug_kernel_api
@flashinfer_api
def rmsnorm(x: Any) -> Any:
    return x


def table(bad: bool) -> Any:
    """int32[2, COLUMNS]: pages inside the pool where a window of 128 reads; far outside where it does not."""
    pages = torch.full((2, COLUMNS), 999, dtype=torch.int32)
    pages[0, 60:63] = torch.tensor([40, 189 if bad else 41, 42])
    pages[1, :2] = torch.tensor([7, 8])
    return pages


def main(what: str) -> None:
    kv = tuple(torch.zeros(PAGES, 2, PAGE, 4, dtype=torch.float8_e4m3fn) for _ in range(2))
    query, work = torch.zeros(2, 4, 4, dtype=torch.bfloat16), torch.zeros(4, dtype=torch.uint8)
    lens = torch.tensor(SEQ_LENS, dtype=torch.int32)
    rmsnorm(query)
    trtllm_batch_decode_with_kv_cache(
        query=query,
        kv_cache=kv,
        workspace_buffer=work,
        block_tables=table(False),
        seq_lens=lens,
        max_seq_len=4096,
        window_left=128,
    )
    if what == "healthy":
        ends = torch.tensor([0, 4, 6], dtype=torch.int32)
        trtllm_batch_context_with_kv_cache(
            *(query, kv, work, table(False), lens, 4, 4096, 1.0, 1.0, 2, ends, ends), window_left=110
        )
        cache = [torch.zeros(PAGES, PAGE, 2, 4) for _ in range(2)]
        flash_attn_with_kvcache(
            *(query, *cache), page_table=table(False), cache_seqlens=lens, window_size=(128, 0), cu_seqlens_q=None
        )
        return
    trtllm_batch_decode_with_kv_cache(
        query, torch.zeros(PAGES, 2, 2, PAGE, 4), work, table(True), lens, 0, 1.0, 1.0, 128
    )


if __name__ == "__main__":
    main(sys.argv[1])
