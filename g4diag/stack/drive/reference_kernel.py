"""A reference in the place of a compiled attention kernel: called through the real one's signature, and, for backends
that hand their kernels slots, one decode kernel for all of them.

Slots are pages of one token to the reference. B: rows. N: slots of a row. H: heads. K: heads of keys. D: head dim.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

Kernel = Callable[..., Any]
_decoding: list[Kernel] = []


def bound(original: Kernel, reference: Kernel) -> Kernel:
    """`reference`, called by keywords with the arguments that `original` would have: what that refuses is refused. It
    keeps the original's signature, which a probe's hook holds against what it unpacks."""
    signature = inspect.signature(original)
    names = tuple(signature.parameters)
    # By how many arguments come by position, and the names of the others: the parameters that nobody gives. A call of a
    # form that was bound before is bound again as that was.
    defaults: dict[tuple[int, tuple[str, ...]], dict[str, Any]] = {}
    has_names = not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values())

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        form = (len(args), tuple(kwargs))
        if form not in defaults:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            if not has_names:
                return reference(**given.arguments)
            there = {*names[: len(args)], *kwargs}
            defaults[form] = {name: value for name, value in given.arguments.items() if name not in there}
        return reference(**dict(zip(names, args, strict=False)), **kwargs, **defaults[form])

    return call


@contextmanager
def decoding(decode: Kernel) -> Iterator[None]:
    """For the body, `decode_slots` is `decode`, called as FlashInfer's trtllm kernel is."""
    _decoding.append(decode)
    try:
        yield
    finally:
        _decoding.pop()


def decode_slots(
    q: Any, buffers: tuple[Any, Any], table_BN: Any, lens_B: Any, scale: float | None, window: int = -1
) -> Any:
    """One query a row over its slots. q: [B, H, D]. buffers: K and V, [slots, K, D]. window: keys left of the query
    that it sees, -1 where the slots are those of the window already. Returns like q."""
    return _decoding[-1](
        query=q,
        kv_cache=by_slot(*buffers),
        block_tables=table_BN,
        seq_lens=lens_B,
        bmm1_scale=scale,
        window_left=window,
        q_len_per_req=1,
    )


def by_slot(k: Any, v: Any) -> tuple[Any, Any]:
    """[slots, K, D] as pages of one token."""
    return k.unsqueeze(2), v.unsqueeze(2)


def rows_of(indptr_B1: Any, indices_N: Any) -> tuple[Any, Any]:
    """Flat slots by row: ([B, the longest], how many each has)."""
    import torch

    rows = [indices_N[start:end] for start, end in pairwise(indptr_B1.tolist())]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), indptr_B1.diff()
