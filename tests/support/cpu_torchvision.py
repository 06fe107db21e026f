"""Repairs torchvision from the package index, which is built with CUDA, beside a CPU build of torch.

As `sitecustomize.py` beside torchvision, on PYTHONPATH, it runs when Python starts. Resizing needs no repair. The
operators of the missing libraries are declared, and files are decoded by Pillow: the same pixels for PNG.
"""

import sys
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from typing import Any


def _decode_image(data: Any, mode: Any = None, apply_exif_orientation: bool = False) -> Any:
    """Decode a 1-d uint8 tensor to RGB, uint8 [3, height, width]."""
    import io

    import numpy as np
    import torch
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data.numpy().tobytes())) as file:
        image = ImageOps.exif_transpose(file) if apply_exif_orientation else file
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        spec = PathFinder.find_spec(name, path) if name == "torchvision" else None
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(self.execute, spec.loader.exec_module)  # type: ignore[method-assign]  # as importlib allows
        return spec

    def execute(self, load: Any, module: Any) -> None:
        import torch

        self.library = torch.library.Library("torchvision", "DEF")  # kept: its end would remove the operators
        for operator in ("nms", "qnms"):
            self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        load(module)
        module.io.decode_image = _decode_image


sys.meta_path.insert(0, _Finder())
