"""The one way to torchvision, with a remedy for the wheel that does not import on a CPU-only torch.

torchvision's wheel on the package index is built against CUDA. On a torch without CUDA its compiled library
cannot be loaded, which torchvision tolerates, except that `import torchvision` then fails with "operator
torchvision::nms does not exist": two registrations (`nms`, `qnms`) lack the guard that all others have (seen
with torchvision 0.28 on torch 2.13+cpu). Declaring those two schemas lets the import pass; data sets,
transforms and models work, `ops.nms` and `io.decode_jpeg` do not. Where the import works nothing is done.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_declared: list[Any] = []  # a torch Library takes its schemas back when it is collected: keep it


def import_torchvision() -> ModuleType:
    """The module torchvision. Raises whatever its import raises, but for the fault described above."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _declared:
            raise
    import torch

    # The failed import leaves submodules behind that a second import would not attach to the package again.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    declare: Any = torch.library.Library
    library = declare("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return importlib.import_module("torchvision")


def import_transforms() -> Any:
    """torchvision's transforms, version 2."""
    import_torchvision()
    return importlib.import_module("torchvision.transforms.v2")
