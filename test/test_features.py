# SPDX-License-Identifier: Apache-2.0
"""Features: what the constructor fills in and refuses; the packing of descriptors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gcnv2_ros.features import Features, FeaturesError, pack_descriptors, unpack_descriptors

channels = npst.arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.sampled_from([8, 64, 256])),
    elements=st.floats(-2, 2, width=32),
)


@settings(deadline=None)
@given(channels)
def test_bits_are_those_of_numpy_packbits(values: np.ndarray) -> None:
    packed = pack_descriptors(values)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packed, np.packbits(values > 0, axis=1))


@settings(deadline=None)
@given(channels)
def test_unpacking_undoes_packing(values: np.ndarray) -> None:
    np.testing.assert_array_equal(unpack_descriptors(pack_descriptors(values)), values > 0)


def test_channel_0_is_the_most_significant_bit_of_byte_0() -> None:
    values = np.full((1, 256), -1.0, np.float32)
    values[0, [0, 15]] = 0.3
    assert pack_descriptors(values)[0, :3].tolist() == [0b10000000, 0b00000001, 0]


def test_zero_and_nan_give_a_0_bit() -> None:
    assert pack_descriptors(np.array([[0.0, np.nan, -0.0, 1e-30, -1.0, 1.0, np.inf, -np.inf]]))[0, 0] == 0b00010110


def test_packing_refuses_a_width_that_is_no_multiple_of_8() -> None:
    with pytest.raises(FeaturesError, match="multiple of 8"):
        pack_descriptors(np.zeros((2, 9), np.float32))


def make(count: int = 3, **changes: object) -> Features:
    values: dict = {
        "uv": np.arange(2 * count, dtype=np.float64).reshape(count, 2),
        "response": np.linspace(0.9, 0.1, count),
        "descriptors": np.arange(32 * count, dtype=np.uint8).reshape(count, 32),
        "image_size": (640, 480),
    }
    return Features(**{**values, **changes})


def test_arrays_are_contiguous_and_of_their_documented_types() -> None:
    features = make(3, uv=np.zeros((3, 4))[:, ::2], track_id=[1, 2, 3])
    for name, dtype in {"uv": "f4", "response": "f4", "size": "f4", "depth": "f4", "track_id": "i4"}.items():
        array = getattr(features, name)
        assert array.dtype == np.dtype(dtype)
        assert array.flags.c_contiguous


def test_what_is_left_out_is_marked_unknown() -> None:
    features = make(2)
    assert features.angle.tolist() == [-1, -1]
    assert features.right_u.tolist() == [-1, -1]
    assert features.track_id.tolist() == [-1, -1]
    assert np.isnan(features.depth).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uv": np.zeros((3, 3))}, "uv"),
        ({"response": np.zeros(2)}, "response"),
        ({"response": np.array([0.1, 0.5, 0.2])}, "descending"),
        ({"descriptors": np.zeros((3, 32), np.float32)}, "uint8"),
        ({"descriptors": np.zeros((2, 32), np.uint8)}, "descriptors"),
        ({"metric": "cosine"}, "metric"),
        ({"depth": np.zeros((3, 1))}, "depth"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(FeaturesError, match=message):
        make(3, **changes)


def test_no_features_is_a_valid_value() -> None:
    for features in (Features.empty((640, 480)), make(0), make(4).select(np.zeros(4, bool))):
        assert len(features) == 0
        assert features.descriptors.shape == (0, 32)
    assert Features.empty((8, 8), metric="l2", width=128).descriptors.dtype == np.float32


def test_select_takes_every_array_along() -> None:
    features = make(4, depth=[1, 2, 3, 4], track_id=[5, 6, 7, 8], size=[1, 2, 3, 4]).select([1, 3])
    assert features.uv.tolist() == [[2, 3], [6, 7]]
    assert features.depth.tolist() == [2, 4]
    assert features.track_id.tolist() == [6, 8]
    assert features.size.tolist() == [2, 4]
    assert features.descriptors[:, 0].tolist() == [32, 96]
    assert features.image_size == (640, 480)


def test_with_arrays_replaces_and_checks() -> None:
    features = make(2)
    assert features.with_arrays(depth=np.array([1.0, 2.0])).depth.tolist() == [1, 2]
    assert np.isnan(features.depth).all()
    with pytest.raises(FeaturesError, match="depth"):
        features.with_arrays(depth=np.zeros(3))
