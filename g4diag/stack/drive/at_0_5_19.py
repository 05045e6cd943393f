"""How 0.5.19's classes are driven on a CPU: what is not here is as in `at_0_5_20`.

Arguments are a dataclass, already published in the runtime context; ranks are those of the parallel state.
"""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive import at_0_5_20

_RENAMED = {"cuda_graph_bs": "cuda_graph_bs_decode"}
_installed: list[Any] = []


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_20, name)


def server_args(**overrides: Any) -> Any:
    """Also publishes them: sglang's own way to have arguments without a model does both at once."""
    from sglang.srt.model_executor.cuda_graph_config import CudaGraphConfig
    from sglang.srt.runtime_context import get_context

    while _installed:
        _installed.pop().restore()
    given = {_RENAMED.get(name, name): value for name, value in overrides.items()}
    if sizes := given.get("cuda_graph_bs_decode"):
        given["cuda_graph_config"] = CudaGraphConfig.from_dict({"decode": {"bs": list(sizes), "max_bs": max(sizes)}})
    override = get_context().override_server_args(**given)
    args = override.install()
    for name, value in given.items():  # what is declared is kept beside the fields; readers of the fields see it too
        object.__setattr__(args, name, value)
    _installed.append(override)
    return args
