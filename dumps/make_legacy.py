"""Write the sample dumps of the two kinds of the fork pyc96/sglang, with the fields its own instrumentation wrote.

`python dumps/make_legacy.py [folder]`. Deterministic: no clock, no random numbers.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import torch

PAGE = 64
SWA_PAGES = 8657
WINDOW = 512


def page_table() -> dict[str, Any]:
    """The fork's crash: layer 22's k_cache has 8657 pages, two of four rows hold full-space ids beyond them."""
    seq_lens = [4001, 3987, 4054, 1210]
    first_pages = [8611, 3120, 41873, 902]
    table = torch.zeros(len(seq_lens), 128, dtype=torch.int32)
    for row, (length, first) in enumerate(zip(seq_lens, first_pages, strict=True)):
        pages = -(-length // PAGE)
        table[row, :pages] = torch.arange(first, first + pages, dtype=torch.int32)
    return {
        "page_table": table,
        "cache_seqlens_int32": torch.tensor(seq_lens, dtype=torch.int32),
        "k_cache_shape": [SWA_PAGES, 8, PAGE, 256],
        "num_pages_in_cache": SWA_PAGES,
        "page_size": PAGE,
        "sliding_window": WINDOW,
        "layer_id": 22,
        "forward_mode": "DECODE",
        "is_swa_layer": False,
    }


def allocator(slots: torch.Tensor, ctx: str) -> dict[str, Any]:
    """What the fork's allocator trap wrote; its bound was `swa_pool_size`, one page below the true one."""
    size = (SWA_PAGES - 1) * PAGE
    return {
        "ctx": ctx,
        "alloc_swa_indices": slots,
        "swa_pool_size": size,
        "page_size": PAGE,
        "swa_max_value_returned": int(slots.max()),
        "swa_min_value_returned": int(slots.min()),
        "oob_count": int((slots >= size).sum()),
    }


def main(folder: Path) -> None:
    """Write the three files."""
    last = SWA_PAGES - 1
    beyond = torch.arange((last - 1) * PAGE, (last + 2) * PAGE, dtype=torch.int64)
    last_page = torch.arange(last * PAGE, last * PAGE + 37, dtype=torch.int64)
    documents = {
        "legacy-page-table.pt": page_table(),
        "legacy-allocator.pt": allocator(beyond, "alloc_extend"),
        "legacy-allocator-last-page.pt": allocator(last_page, "alloc_decode"),
    }
    for name, document in documents.items():
        buffer = io.BytesIO()  # a buffer, because torch.save names the archive after a file
        torch.save(document, buffer)
        (folder / name).write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
