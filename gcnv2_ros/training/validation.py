# SPDX-License-Identifier: Apache-2.0
"""Figures made as training goes: matching accuracy of the current network on set-aside pictures, beside ORB's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..evaluation.homography import HomographyPair, SyntheticOptions, score_pairs, synthetic_pairs
from ..extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from ..extraction.network import NetworkExtractor
from ..extraction.runtimes import RawFeatures, Runtime, create_runtime
from ..image_size import size_text
from ..networks.common import FeatureNetwork
from ..weights import Candidates, Sampling, Weights, WeightsMetadata
from .trainable import released_state

INPUT_SIZES = ((640, 480), (320, 240))
_ROLLS = (45.0,)
CANDIDATES: Candidates = "peaks"
"""How score maps are read that training makes; what is exported recommends the same."""

BUDGETS = (500, 1000)
"""Numbers of keypoints an image for which decoding is chosen."""

_DECODE = DecodeOptions(max_keypoints=500, score_threshold=0.0, candidates=CANDIDATES)


def extractor_of(
    network: FeatureNetwork,
    options: ExtractorOptions,
    decode: DecodeOptions | None = None,
    *,
    sampling: Sampling = "half_pixel",
) -> Extractor:
    """An extractor for a network in memory, e.g. one in training. It runs a copy of the network, always in torch.

    The other runtimes refuse weights without a file, by whose SHA-256 they keep what they make of them. `sampling` is
    how the network was trained to be read, unless it has coefficients of ``learned`` sampling.
    """
    options = replace(options, runtime="torch")
    state, learned = released_state(network)
    metadata = WeightsMetadata(network.name, sampling=sampling if learned is None else "learned")
    weights = Weights(state, metadata, "", Path("in-memory"), learned)
    runtime = _Remembering(create_runtime(options, weights))
    return NetworkExtractor(options, weights, runtime, decode or DecodeOptions())


class _Remembering:
    """A runtime that still knows the answers to its last two inputs, so that a pair is decoded in many ways at once."""

    def __init__(self, runtime: Runtime) -> None:
        self.name, self.device, self.precision = runtime.name, runtime.device, runtime.precision
        self.stride = runtime.stride
        self._runtime = runtime
        self._latest: list[tuple[NDArray[np.float32], RawFeatures]] = []

    def infer(self, batch: NDArray[np.float32]) -> RawFeatures:
        for known, raw in self._latest:
            if np.array_equal(known, batch):
                return raw
        raw = self._runtime.infer(batch)
        self._latest = [*self._latest[-1:], (batch, raw)]
        return raw

    def describe(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.infer(batch).descriptors

    def close(self) -> None:
        self._latest = []
        self._runtime.close()


class Validation:
    """A fixed set of homography pairs, and scores of networks on it.

    Errors are measured in the pairs' pixels (640x480) whatever the network's input size.

    Parameters
    ----------
    pictures
        Picture files set aside from training.
    count
        Number of random pairs; a third as many are made with a roll of 45 degrees and nothing else.
    nms_radius
        Suppression radius in network pixels; None: the published choice, which grows with the input size.
    sampling
        How the networks that are scored read descriptors from the dense map.
    """

    def __init__(
        self,
        pictures: list[Path],
        *,
        count: int = 24,
        nms_radius: int | None = None,
        sampling: Sampling = "half_pixel",
    ) -> None:
        self._sampling: Sampling = sampling
        self._decode = replace(_DECODE, nms_radius=nms_radius)
        options = SyntheticOptions()
        self.pairs: dict[str, list[HomographyPair]] = {
            "random": synthetic_pairs(pictures, count=count, seed=1, options=options)
        }
        for roll in _ROLLS:
            self.pairs[f"roll{roll:.0f}"] = synthetic_pairs(
                pictures, count=max(1, count // 3), seed=2, options=options, roll=roll
            )

    def accuracy_by_decoding(
        self, network: FeatureNetwork, size: tuple[int, int], *, radii: Sequence[int], smoothings: Sequence[float]
    ) -> dict[tuple[int, float], float]:
        """Mean matching accuracy (MMA@3) on the random pairs for each suppression radius with each smoothing.

        The mean is over pairs and over the numbers of keypoints `BUDGETS`.

        Parameters
        ----------
        network
            Without normalisation.
        size
            Width and height of the network's input.
        radii, smoothings
            See `gcnv2_ros.extraction.DecodeOptions`.
        """
        choices = list(itertools.product(radii, smoothings))
        decodes = [replace(self._decode, nms_radius=radius, smoothing=smoothing) for radius, smoothing in choices]
        return dict(zip(choices, self._accuracies(network, size, decodes)))

    def accuracy_of_blobs(self, network: FeatureNetwork, size: tuple[int, int]) -> float:
        """The same with blobs in place of the network's own keypoints."""
        (accuracy,) = self._accuracies(network, size, [DecodeOptions(detector="blobs")])
        return accuracy

    def _accuracies(
        self, network: FeatureNetwork, size: tuple[int, int], decodes: Sequence[DecodeOptions]
    ) -> list[float]:
        """Mean matching accuracy on the random pairs with each of `decodes`, over pairs and `BUDGETS`."""
        options = ExtractorOptions(model=network.name, input_width=size[0], input_height=size[1])
        accuracy: list[list[float]] = [[] for _ in decodes]
        with extractor_of(network, options, sampling=self._sampling) as extractor:
            # Pair by pair: the network then sees each image once.
            for pair in self.pairs["random"]:
                for (values, decode), budget in itertools.product(zip(accuracy, decodes), BUDGETS):
                    extractor.decode_options = replace(decode, max_keypoints=budget)
                    (score,) = score_pairs(extractor.extract, [pair], draws=0)
                    values.append(score.accuracy[0])
        return [float(np.mean(values)) for values in accuracy]

    def score(self, model: str, network: FeatureNetwork | None = None) -> dict[str, float]:
        """Mean figures of a network, or of ``orb``.

        Returns
        -------
        dict
            ``mma3_640x480``, ``repeatability_640x480``, ``roll45_mma3_640x480`` and so on, shares in [0, 1].
        """
        figures = {}
        for size in INPUT_SIZES:
            options = ExtractorOptions(model=model, input_width=size[0], input_height=size[1])
            if network is None:
                extractor = create_extractor(options, self._decode)
            else:
                extractor = extractor_of(network, options, self._decode, sampling=self._sampling)
            suffix = size_text(*size)
            with extractor:
                for name in self.pairs:
                    scores = score_pairs(extractor.extract, self.pairs[name], draws=0)
                    prefix = "" if name == "random" else f"{name}_"
                    figures[f"{prefix}mma3_{suffix}"] = float(np.mean([s.accuracy[0] for s in scores]))
                    figures[f"{prefix}repeatability_{suffix}"] = float(np.mean([s.repeatability for s in scores]))
                    figures[f"{prefix}correct_{suffix}"] = float(np.mean([s.accuracy[0] * s.matches for s in scores]))
        return figures
