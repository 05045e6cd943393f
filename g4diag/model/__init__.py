"""The nouns everyone here speaks: index spaces, views taken from live objects, and what traps say of them.

Array names carry their shape: B request rows, P page-table columns, M mapping entries, N slots or ids.
Views hold indices, lengths and sizes, never KV bytes and never prompt text. All arrays are numpy.
"""

from g4diag.model.allocator_calls import Allocation, Release
from g4diag.model.evidence import DEVICE_KINDS, KernelFault, LogEvent, surfaced_at
from g4diag.model.findings import (
    FIELDS,
    Finding,
    Incident,
    RingRecord,
    Violation,
    by_field,
)
from g4diag.model.inspection import SKIPPED, Comparison, Inspection, Likeness, Outcome
from g4diag.model.nouns import (
    BoolArray,
    Grade,
    IndexMapping,
    IndexSpace,
    IntArray,
    LayerKind,
    PoolView,
    RowOwners,
    Severity,
    Windows,
)
from g4diag.model.prefix_match import PrefixMatch
from g4diag.model.views import (
    VIEWS,
    AttentionRead,
    FreeList,
    KVSlots,
    KVWrite,
    MappingUpdate,
    PoolSwap,
    QueryRows,
    RequestView,
    View,
)

__all__ = [
    "DEVICE_KINDS",
    "FIELDS",
    "SKIPPED",
    "VIEWS",
    "Allocation",
    "AttentionRead",
    "BoolArray",
    "Comparison",
    "Finding",
    "FreeList",
    "Grade",
    "Incident",
    "IndexMapping",
    "IndexSpace",
    "Inspection",
    "IntArray",
    "KVSlots",
    "KVWrite",
    "KernelFault",
    "LayerKind",
    "Likeness",
    "LogEvent",
    "MappingUpdate",
    "Outcome",
    "PoolSwap",
    "PoolView",
    "PrefixMatch",
    "QueryRows",
    "Release",
    "RequestView",
    "RingRecord",
    "RowOwners",
    "Severity",
    "View",
    "Violation",
    "Windows",
    "by_field",
    "surfaced_at",
]
