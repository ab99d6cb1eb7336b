# SPDX-License-Identifier: Apache-2.0
"""An extractor that goes on with the CPU when the memory of its device runs out."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error
from ..extraction import DecodeOptions, ExtractionError, Extractor, ExtractorOptions, ModelInfo
from ..features import Features

ExtractorFactory = Callable[[ExtractorOptions, DecodeOptions], Extractor]

_WARM_UP_SIZE = (640, 480)


class FallbackExtractor:
    """Builds an extractor, and once builds it anew on the CPU if the device is out of memory.

    Other programs may take a GPU's memory at any time. A robot that sees slowly is better off than one that does not
    see; the device is tried again when the node is configured anew. If the memory runs out on the CPU too, the error is
    raised. If the one for the CPU cannot be built, that is tried again with each of the next images.

    Parameters
    ----------
    options, decode
        What the extractor is built from.
    create
        Builds extractors.
    on_fallback
        Called with a sentence after the change.

    Raises
    ------
    GCNv2Error
        If the model cannot be loaded or does not run.
    """

    def __init__(
        self,
        options: ExtractorOptions,
        decode: DecodeOptions,
        create: ExtractorFactory,
        on_fallback: Callable[[str], None],
    ) -> None:
        self._options = options
        self._decode = decode
        self._create = create
        self._on_fallback = on_fallback
        self._fell_back = False
        # Why there is no extractor that is not closed, from its end until the one for the CPU is built.
        self._exhausted: Exception | None = None
        try:
            self._extractor = create(options, decode)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._fall_back(error)
        # The first run of a network is slow and shows what a device cannot do: better now than at the first frame.
        width, height = options.input_size or _WARM_UP_SIZE
        self.extract_batch([np.zeros((height, width), np.uint8)], masks=[None], rolls=[0.0])

    @property
    def info(self) -> ModelInfo:
        """What the extractor in use is."""
        return self._extractor.info

    def set_decode_options(self, decode: DecodeOptions) -> None:
        """Change how keypoints are chosen, from the next frame on."""
        self._decode = decode
        self._extractor.decode_options = decode

    def extract_batch(
        self,
        grays: Sequence[NDArray[np.uint8]],
        *,
        masks: Sequence[NDArray[np.uint8] | None],
        rolls: Sequence[float],
    ) -> list[Features]:
        """Features of several images; see `Extractor.extract_batch`.

        Raises
        ------
        ExtractionError
            As there, and if the device is out of memory and the model cannot be built on the CPU.
        """
        if self._exhausted is None:
            try:
                return self._extractor.extract_batch(grays, masks=masks, rolls=rolls)
            except Exception as error:
                if self._fell_back or not is_out_of_memory(error):
                    raise
                self._extractor.close()
                self._exhausted = error
        self._fall_back(self._exhausted)
        return self._extractor.extract_batch(grays, masks=masks, rolls=rolls)

    def close(self) -> None:
        """Free the model."""
        self._extractor.close()

    def _fall_back(self, error: Exception) -> None:
        reason = str(error).partition("\n")[0]
        # A precision or an engine that was chosen for the device may not exist on the CPU.
        on_cpu = dataclasses.replace(self._options, device="cpu", precision="auto", runtime="auto")
        try:
            self._extractor = self._create(on_cpu, self._decode)
        except GCNv2Error as failure:
            raise ExtractionError(
                f"the device {self._options.device!r} is out of memory ({reason}), and the model cannot be built on "
                f"the CPU: {failure}"
            ) from failure
        self._fell_back, self._exhausted = True, None
        # They may have changed while it was built.
        self._extractor.decode_options = self._decode
        self._on_fallback(
            f"the device {self._options.device!r} is out of memory, so the node goes on with the CPU, which is slower, "
            f"until it is configured anew: {reason}"
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception is torch's for a device without free memory; torch itself is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)
