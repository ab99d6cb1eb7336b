# SPDX-License-Identifier: Apache-2.0
"""ALIKED, through kornia: the upper reference in comparisons, and a teacher for training.

Zhao, Wu, Chen, Chen, Xu, Lee, "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable
Transformation", IEEE T-IM 2023 (arXiv 2304.03608). It makes 128 floats a keypoint and is many times slower than GCNv2:
not meant for a robot.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..features import Features
from ..files import sha256_of, user_path
from ..libraries import import_library
from .extractor import Extractor, Image, Mask, marked
from .options import DecodeOptions, ExtractionError, ExtractorOptions, is_intel
from .preprocess import InputGeometry, upright
from .results import ModelInfo, Timings

MODELS = ("aliked-n16", "aliked-n16rot")
_DEFAULT_THRESHOLD = 0.1
_BORDER = 2
_DESCRIPTOR_WIDTH = 128
# A buffer that kornia computes for itself.
_NOT_IN_THE_FILE = frozenset({"dkd.hw_grid"})


class AlikedExtractor(Extractor):
    """ALIKED keypoints and float descriptors.

    Parameters
    ----------
    options
        ``model`` is one of `MODELS`; ``weights`` must name the authors' ``.pth`` file. Only fp32 on the CPU or CUDA.
    decode
        ``max_keypoints``, ``score_threshold`` (None: 0.1) and masks count; ``nms_radius`` and ``border`` are ALIKED's
        own.

    Raises
    ------
    MissingDependencyError, LibraryError
        If kornia is not installed, or is and cannot be imported.
    ExtractionError
        If the weights file is missing or is not ALIKED's, or the device is not there.
    """

    def __init__(self, options: ExtractorOptions, decode: DecodeOptions) -> None:
        super().__init__(decode)
        kornia = import_library("kornia.feature", f"the extractor {options.model!r}", "pip install kornia")
        import torch

        # It imports torch, which not all models need.
        from .runtimes.torch_eager import keep_fp32_exact, resolve_device

        if is_intel(options.device):
            raise ExtractionError(
                f"{options.model} runs on cpu or cuda, not on {options.device}, one of Intel's devices"
            )
        path = user_path(options.weights, ExtractionError)
        if not path.is_file():
            raise ExtractionError(
                f"{options.model} needs the authors' weights: give the path of {options.model}.pth, "
                f"got {options.weights!r}"
            )
        self._torch = torch
        self._options = options
        self._device = resolve_device(options.device)
        keep_fp32_exact(self._device)
        network: Any = kornia.ALIKED(options.model, detection_threshold=_DEFAULT_THRESHOLD)
        self._network = network.eval().to(self._device)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            missing = set(self._network.load_state_dict(state, strict=False).missing_keys) - _NOT_IN_THE_FILE
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ExtractionError(f"{path}: not a state dictionary of {options.model} ({reason})") from error
        if missing:
            raise ExtractionError(
                f"{path} is not the authors' {options.model}.pth: it lacks {len(missing)} of the network's tensors, "
                f"{min(missing)!r} among them"
            )
        self._sha256 = sha256_of(path)

    @property
    def info(self) -> ModelInfo:
        """What the features are made with."""
        decode = self.decode_options
        return ModelInfo(
            model=self._options.model,
            weights=Path(self._options.weights).name,
            weights_sha256=self._sha256,
            input_size=self._options.input_size,
            descriptor_width=_DESCRIPTOR_WIDTH,
            metric="l2",
            bit_order="none",
            sampling=None,
            max_keypoints=decode.max_keypoints,
            score_threshold=_threshold(decode),
            smoothing=None,
            detector=None,
            candidates=None,
            nms_radius=2,
            border=_BORDER,
            subpixel=True,
            runtime="torch",
            device=str(self._device),
            precision="fp32",
        )

    def _extract(self, grays: Sequence[Image], masks: Sequence[Mask | None], rolls: Sequence[float]) -> list[Features]:
        start = time.perf_counter()
        results = [self._extract_one(gray, mask, roll) for gray, mask, roll in zip(grays, masks, rolls)]
        self._last_timings = Timings(0.0, time.perf_counter() - start, 0.0)
        return results

    def _extract_one(self, gray: Image, mask: Mask | None, roll: float) -> Features:
        torch = self._torch
        image_size = (gray.shape[1], gray.shape[0])
        geometry = InputGeometry.of(image_size, self._options.input_size, 1, roll)
        resized = np.ascontiguousarray(upright(gray, geometry))
        tensor = torch.from_numpy(resized).to(self._device)[None, None].float().div(255)
        self._network.dkd.scores_th = max(_threshold(self.decode_options), 1e-6)
        with torch.inference_mode():
            found = self._network(tensor.expand(1, 3, -1, -1).contiguous())[0]
        keypoints = found.keypoints.cpu().numpy()
        uv = geometry.to_image(keypoints)
        response = found.keypoint_scores.cpu().numpy()
        kept = geometry.is_inside(keypoints, _BORDER) if geometry.is_surrounded else np.ones(len(uv), bool)
        if mask is not None:
            kept &= marked(mask, uv)
        order = np.argsort(-response[kept], kind="stable")[: self.decode_options.max_keypoints]
        index = np.nonzero(kept)[0][order]
        return Features(
            uv=uv[index],
            response=response[index],
            descriptors=found.descriptors.cpu().numpy().astype(np.float32)[index],
            image_size=image_size,
            metric="l2",
            angle=np.full(len(index), geometry.angle, np.float32),
        )

    def close(self) -> None:
        """Free the network."""
        self._network = None


def _threshold(decode: DecodeOptions) -> float:
    return _DEFAULT_THRESHOLD if decode.score_threshold is None else decode.score_threshold
