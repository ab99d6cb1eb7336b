# SPDX-License-Identifier: Apache-2.0
"""Building an extractor from options."""

from __future__ import annotations

from ..errors import did_you_mean
from .aliked import MODELS as ALIKED_MODELS
from .aliked import AlikedExtractor
from .extractor import Extractor
from .options import DecodeOptions, ExtractorOptions
from .orb import MODEL as ORB
from .orb import OrbExtractor
from .sift import MODEL as SIFT
from .sift import SiftExtractor


def create_extractor(options: ExtractorOptions, decode: DecodeOptions | None = None) -> Extractor:
    """Build an extractor: load and check the weights, build the runtime.

    Parameters
    ----------
    options
        What it is built from.
    decode
        How keypoints are chosen at first; None: the defaults.

    Raises
    ------
    ExtractionError
        If the runtime, device or precision cannot be had.
    NetworkError
        If there is no model of that name.
    WeightsError
        If the weights cannot be used, or the package ships none for that network.
    """
    decode = DecodeOptions() if decode is None else decode
    if options.model == ORB:
        return OrbExtractor(options, decode)
    if options.model == SIFT:
        return SiftExtractor(options, decode)
    if options.model in ALIKED_MODELS:
        return AlikedExtractor(options, decode)
    # OpenCV's detectors need no torch, so it is imported only for networks.
    from ..networks import NetworkError, network_names
    from ..weights import load_weights
    from .network import NetworkExtractor, chosen_detector
    from .runtimes import create_runtime

    models = (*network_names(), ORB, SIFT, *ALIKED_MODELS)
    if options.model not in models:
        raise NetworkError(
            f"there is no model {options.model!r}{did_you_mean(options.model, models)}; "
            f"the models are {', '.join(models)}"
        )
    weights = load_weights(options.weights, model=options.model)
    detector = chosen_detector(decode, weights.metadata) == "network"
    return NetworkExtractor(options, weights, create_runtime(options, weights, detector=detector), decode)
