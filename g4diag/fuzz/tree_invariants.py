"""What must hold of a radix cache beyond its pages: of its nodes where they can be read, else of its slots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from g4diag.fuzz.cache_machine import CacheMachine
from g4diag.fuzz.node_tree import NodeTree
from g4diag.fuzz.slot_tree import SlotTree
from g4diag.model import BoolArray, IntArray
from g4diag.stack.drive import radix_tree
from g4diag.stack.drive.cache_server import CacheServer, Shape


class TreeInvariants(CacheMachine):
    """Base of a machine whose cache is a radix tree. tolerant: see NodeTree. narrow: a window of whole pages is read as
    the cache keeps it. Where the layers' is one key wider (0.5.13), a match may end just that window past a
    tombstone, and its next query reads the tombstone's last key too: tests/fuzz finds that."""

    tolerant: ClassVar[bool] = True
    narrow: ClassVar[bool] = True

    def begin(self, shape: Shape, server: CacheServer) -> None:
        super().begin(shape, server)
        if self.narrow and shape.window % shape.page_size == 0:
            self.window = shape.window
        has_nodes = radix_tree.has_nodes(server.cache)
        self.tree = NodeTree(self, tolerant=self.tolerant) if has_nodes else SlotTree(self)

    def check_cache(self) -> None:
        self.tree.check()
        if not (self.reqs or self.flight):
            self.call(self.server.cache.sanity_check)

    def known_stale(self, req: Any, start: int) -> BoolArray:
        return self.tree.known_stale(req, start)

    def cached(self) -> Iterator[tuple[object, IntArray, bool]]:
        yield from self.tree.cached()
