# SPDX-License-Identifier: Apache-2.0
"""Eight bits: calibration is repeatable and refused where it does not belong, and the features stay what they were."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.cli.main import main
from gcnv2_ros.errors import MissingDependencyError
from gcnv2_ros.extraction import DecodeOptions, ExtractionError, ExtractorOptions, create_extractor
from gcnv2_ros.extraction.quantization import Calibration, load_calibration, save_calibration, weight_scales
from gcnv2_ros.extraction.runtimes import create_runtime
from gcnv2_ros.matching import match
from gcnv2_ros.weights import Weights, load_weights

pytest.importorskip("onnx")
data = pytest.importorskip("skimage.data")

MODEL = "gcnv2_tiny"


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped weights, calibrated through the command on two photographs."""
    import cv2

    folder = tmp_path_factory.mktemp("int8")
    for name in ("camera", "coins"):
        (folder / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), getattr(data, name)())
    shutil.copy(load_weights("default", model=MODEL).path, folder / "tiny.safetensors")
    arguments = ["quantize", MODEL, str(folder / "images"), "--weights", str(folder / "tiny.safetensors")]
    assert main([*arguments, "--input-size", "160x128"]) == 0
    return folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def weights(weights_file: Path) -> Weights:
    return load_weights(weights_file, model=MODEL)


def options(path: Path, precision: str, runtime: str = "openvino") -> ExtractorOptions:
    pytest.importorskip(runtime)
    return ExtractorOptions(weights=str(path), runtime=runtime, precision=precision, device="cpu", threads=1)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_features_in_eight_bits_are_those_in_float_but_for_a_few(runtime: str, weights_file: Path) -> None:
    image = np.ascontiguousarray(data.astronaut().mean(axis=2).astype(np.uint8)[40:280, 100:420])
    decode = DecodeOptions(max_keypoints=400, detector="network")
    with (
        create_extractor(options(weights_file, "fp32", runtime), decode) as in_float,
        create_extractor(options(weights_file, "int8", runtime), decode) as in_bytes,
    ):
        assert in_bytes.info.precision == "int8"
        expected, got = in_float.extract(image), in_bytes.extract(image)
    matches = match(expected, got)
    apart = np.linalg.norm(expected.uv[matches.index_a] - got.uv[matches.index_b], axis=1)
    assert (apart < 1.0).sum() > 0.65 * len(expected)
    a, b = (np.unpackbits(f.descriptors[i], axis=1) for f, i in ((expected, matches.index_a), (got, matches.index_b)))
    same = apart < 1.0
    assert (a[same] == b[same]).mean() > 0.98
    # It is not the float network by another name.
    assert not np.array_equal(expected.response[:50], got.response[:50])


def test_auto_takes_the_first_installed_runtime_that_computes_in_eight_bits(
    weights_file: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ExtractorOptions(weights=str(weights_file), precision="int8", device="cpu", threads=1)
    for name in ("openvino", "onnxruntime"):
        pytest.importorskip(name)
        runtime = create_runtime(chosen, weights)
        assert (runtime.name, runtime.precision) == (name, "int8")
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match="runtime onnxruntime needs"):
        create_runtime(chosen, weights)


def test_the_same_images_give_the_same_calibration(weights_file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.int8.json"
    arguments = ["quantize", MODEL, str(weights_file.parent / "images"), "--weights", str(weights_file)]
    assert main([*arguments, "--input-size", "160x128", "--out", str(again)]) == 0
    assert again.read_text() == weights_file.with_suffix(".int8.json").read_text()


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_other_float_layers_are_another_network(
    runtime: str, weights_file: Path, weights: Weights, tmp_path: Path
) -> None:
    copy = tmp_path / "tiny.safetensors"
    shutil.copy(weights_file, copy)
    calibration = load_calibration(MODEL, weights)
    everything = replace(calibration, float_layers=tuple(calibration.ranges))
    batch = np.random.default_rng(0).random((1, 1, 64, 96), np.float32)
    save_calibration(copy.with_suffix(".int8.json"), everything)
    in_float = create_runtime(options(copy, "fp32", runtime), weights).infer(batch)
    all_float = create_runtime(options(copy, "int8", runtime), load_weights(copy, model=MODEL)).infer(batch)
    np.testing.assert_allclose(all_float.scores, in_float.scores, atol=1e-4)
    in_bytes = create_runtime(options(weights_file, "int8", runtime), weights).infer(batch)
    assert np.abs(in_bytes.scores - in_float.scores).max() > 1e-4


def test_weights_without_a_calibration_say_how_to_make_one(weights_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bare.safetensors"
    shutil.copy(weights_file, copy)
    with pytest.raises(ExtractionError, match=r"bare\.int8\.json, which is missing; make it with `gcnv2 quantize"):
        create_extractor(options(copy, "int8"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"weights_sha256": "', '"weights_sha256": "0'), "not that of bare.safetensors"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 9'), "schema version 9"),
        (lambda text: text[:100], "cannot be used"),
        (lambda text: text.replace('"conv1": [', '"conv1": [NaN, '), "cannot be used"),
        (lambda text: text.replace('"float_layers": [', '"float_layers": ["conv9", '), "conv9 is no convolution"),
    ],
)
def test_a_calibration_that_does_not_belong_or_is_damaged_is_refused(
    change: object, message: str, weights_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "bare.safetensors"
    shutil.copy(weights_file, copy)
    text = weights_file.with_suffix(".int8.json").read_text()
    copy.with_suffix(".int8.json").write_text(change(text))  # type: ignore[operator]
    with pytest.raises(ExtractionError, match=message):
        create_extractor(options(copy, "int8"))


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ExtractionError, match="range of conv1 must hold 0"):
        Calibration(MODEL, "", {"conv1": (0.5, 1.0)}, (), 1, "")


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(4, 1, 3, 3), (5, 2, 3, 3), (3, 7, 1, 1), (6, 32, 3, 3)]),
    tail=st.sampled_from([1.0, 3.0, 9.0]),
)
def test_weights_in_bytes_never_overflow_sixteen_bits_and_waste_little(
    seed: int, shape: tuple[int, ...], tail: float
) -> None:
    rng = np.random.default_rng(seed)
    kernel = (np.sign(rng.standard_normal(shape)) * rng.random(shape) ** tail).astype(np.float32)
    kernel[0] = 0.0
    scales = weight_scales(kernel).reshape(-1, 1, 1, 1)
    rounded = np.rint(kernel / scales)
    sums = np.abs(rounded[:, 0::2][:, : shape[1] // 2]) + np.abs(rounded[:, 1::2])
    assert np.abs(rounded).max() <= 127
    assert 255 * sums.max(initial=0.0) <= 2**15 - 1
    assert (np.abs(rounded) <= 64).all() or shape[1] % 2 == 0
    # Either a weight or a pair of each channel that is not empty comes near to what is allowed.
    nearest = np.maximum(np.abs(rounded).max(axis=(1, 2, 3)), sums.max(axis=(1, 2, 3), initial=0.0))
    assert nearest[1:].min() >= (125 if shape[1] % 2 == 0 else 62)
