"""CUDA's error texts and what each means: whether the call that reports it is the one that failed, and whose fault.

Texts and codes of `cudaGetErrorString` (CUDA Runtime API, data types used by CUDA Runtime: cudaError). An error of a
kernel is asynchronous: it is reported by whichever call comes next. One of a launch is of that very launch.
"""

from __future__ import annotations

import re
from dataclasses import replace

from g4diag.model.log import DeviceError

_WAITED, _LAUNCH = "waited", "launch"
# (code, text, blame, of the hardware)
_TEXTS = (
    ("cudaErrorIllegalAddress", "an illegal memory access was encountered", _WAITED, False),
    ("cudaErrorLaunchFailure", "unspecified launch failure", _WAITED, False),
    ("cudaErrorMisalignedAddress", "misaligned address", _WAITED, False),
    ("cudaErrorIllegalInstruction", "an illegal instruction was encountered", _WAITED, False),
    ("cudaErrorInvalidAddressSpace", "operation not supported on global/shared address space", _WAITED, False),
    ("cudaErrorInvalidPc", "invalid program counter", _WAITED, False),
    ("cudaErrorHardwareStackError", "hardware stack error", _WAITED, False),
    ("cudaErrorAssert", "device-side assert triggered", _WAITED, False),
    ("cudaErrorLaunchTimeout", "the launch timed out and was terminated", _WAITED, False),
    ("cudaErrorECCUncorrectable", "uncorrectable ECC error encountered", _WAITED, True),
    ("cudaErrorNvlinkUncorrectable", "uncorrectable NVLink error detected during the execution", _WAITED, True),
    ("cudaErrorContained", "Invalid access of peer GPU memory over nvlink or a hardware error", _WAITED, True),
    ("cudaErrorTensorMemoryLeak", "Tensor Memory leak detected", _WAITED, False),
    ("cudaErrorUnknown", "unknown error", _WAITED, False),
    ("cudaErrorInvalidConfiguration", "invalid configuration argument", _LAUNCH, False),
    ("cudaErrorLaunchOutOfResources", "too many resources requested for launch", _LAUNCH, False),
    ("cudaErrorInvalidDeviceFunction", "invalid device function", _LAUNCH, False),
    ("cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device", _LAUNCH, False),
    ("cudaErrorInvalidResourceHandle", "invalid resource handle", _LAUNCH, False),
    ("cudaErrorInvalidValue", "invalid argument", _LAUNCH, False),
    ("cudaErrorInvalidDevice", "invalid device ordinal", _LAUNCH, False),
    ("cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable", _LAUNCH, False),
    ("cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing", _LAUNCH, False),
    (
        "cudaErrorStreamCaptureInvalidated",
        "operation failed due to a previous error during capture",
        _LAUNCH,
        False,
    ),
    (
        "cudaErrorSystemDriverMismatch",
        "system has unsupported display driver / cuda driver combination",
        _LAUNCH,
        False,
    ),
    ("cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version", _LAUNCH, False),
    (
        "cudaErrorMpsConnectionFailed",
        "MPS client failed to connect to the MPS control daemon or the MPS server",
        _LAUNCH,
        False,
    ),
)
# A debugger's and the driver's own words for the same.
_OTHER_WORDS = {
    "warp illegal address": "cudaErrorIllegalAddress",
    "warp_illegal_address": "cudaErrorIllegalAddress",
    "cuda_error_illegal_address": "cudaErrorIllegalAddress",
    "cuda_exception_14": "cudaErrorIllegalAddress",
    "warp misaligned address": "cudaErrorMisalignedAddress",
    "warp_misaligned_address": "cudaErrorMisalignedAddress",
    "cuda_error_misaligned_address": "cudaErrorMisalignedAddress",
    "lane illegal address": "cudaErrorIllegalAddress",
    "warp out-of-range address": "cudaErrorIllegalAddress",
    "warp_out_of_range_address": "cudaErrorIllegalAddress",
    "illegal instruction": "cudaErrorIllegalInstruction",
    "cuda_error_launch_failed": "cudaErrorLaunchFailure",
    "cuda_error_ecc_uncorrectable": "cudaErrorECCUncorrectable",
    "cuda_error_assert": "cudaErrorAssert",
    "warp assert": "cudaErrorAssert",
    "an illegal memory access": "cudaErrorIllegalAddress",
    "cublas_status_execution_failed": "CUBLAS_STATUS_EXECUTION_FAILED",
    "cudnn_status_execution_failed": "CUDNN_STATUS_EXECUTION_FAILED",
}
_KNOWN = {code: DeviceError(code, text, blame, hardware) for code, text, blame, hardware in _TEXTS} | {
    code: DeviceError(code, "a library's kernel failed", _WAITED)
    for code in ("CUBLAS_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_EXECUTION_FAILED")
}
_BY_WORD = (
    {known.says.lower(): code for code, known in _KNOWN.items()}
    | {code.lower(): code for code in _KNOWN}
    | _OTHER_WORDS
)
# Texts that stand in messages of other things too: only behind the name of CUDA.
_COMMON = ("invalid argument", "misaligned address", "unknown error", "illegal instruction", "invalid resource handle")
_ANY = re.compile("|".join(re.escape(word) for word in sorted(_BY_WORD, key=len, reverse=True)), re.I)
_OF_CUDA = re.compile(r"cuda|cublas|cudnn|triton error|device|\.cuh?:|launch", re.I)
_LAUNCHER = re.compile(r"[Ff]ailed to launch|[Ll]aunch(?:ing)? (?:of )?(?:the )?kernel failed|cu(?:da)?LaunchKernel")
_PLACE = re.compile(r"\b([\w.-]{1,120}\.cuh?):(\d{1,7})")
_FUNCTION = re.compile(r"[Ee]rror in function '([\w:<>~]{1,200})'|\bin (?:function )?([A-Za-z_][\w:]{2,200})\(")
_UNKNOWN = re.compile(r"\bCUDA (?:driver |runtime )?error\b[^:]{0,40}: *(.{3,160})", re.I)


def classify(message: str) -> DeviceError | None:
    """The CUDA error that a message tells; None if it tells none. The message names the launch where it was that which
    failed."""
    found = next((m for m in _ANY.finditer(message) if m[0].lower() not in _COMMON or _OF_CUDA.search(message)), None)
    if found is None:
        other = _UNKNOWN.search(message)
        return DeviceError("", other[1].strip()[:120], _WAITED) if other and "out of memory" not in other[1] else None
    known = _KNOWN[_BY_WORD[found[0].lower()]]
    place, function = _PLACE.search(message), _FUNCTION.search(message)
    if not (_LAUNCHER.search(message) or place) or known.hardware:
        return known
    named = next(filter(None, function.groups()), "") if function else ""
    return replace(known, blame=_LAUNCH, function=named, place=f"{place[1]}:{place[2]}" if place else "")


def is_relayed(message: str) -> bool:
    """Whether the error stands in quotes: another process's, passed on."""
    found = _ANY.search(message)
    before = message[: found.start()] if found else ""
    return bool(re.search(r"['\"](?:[\w.]{0,80}Error: )?(?:CUDA (?:driver )?error: ?)?$", before))
