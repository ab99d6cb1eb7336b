# SPDX-License-Identifier: Apache-2.0
"""Runtimes agree on real images, cached models are checked before they are used, and errors say what to do."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcnv2_ros.cli.main import main
from gcnv2_ros.errors import MissingDependencyError
from gcnv2_ros.extraction import DecodeOptions, ExtractionError, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.extraction.export import cache_folder, export_onnx
from gcnv2_ros.extraction.runtimes import AUTO_ORDER, Runtime, create_runtime
from gcnv2_ros.features import Features
from gcnv2_ros.files import sha256_of
from gcnv2_ros.libraries import LibraryError
from gcnv2_ros.networks import create_network
from gcnv2_ros.weights import LearnedSampling, Weights, WeightsMetadata, load_weights, save_weights

onnx = pytest.importorskip("onnx")
data = pytest.importorskip("skimage.data")

MODEL = "gcnv2_tiny"
ENGINES = ("openvino", "onnxruntime")

# A first experiment's weights, beside the repository; not part of it.
TRAINED = Path(__file__).resolve().parents[2] / "shared" / "data" / "bootstrap_weights" / "gcnv2_tiny.pt"


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Initialised such that the signal keeps its strength from layer to layer, so that scores and bits are diverse."""
    generator = torch.Generator().manual_seed(5)
    state = create_network(MODEL).state_dict()
    for name, value in state.items():
        if name.endswith("weight"):
            deviation = (2.0 / value[0].numel()) ** 0.5
            value.copy_(torch.randn(value.shape, generator=generator) * deviation)
        else:
            value.zero_()
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    size = "320x240"
    metadata = WeightsMetadata(MODEL, score_thresholds={size: 0.5}, smoothing={size: 0.0}, nms_radius={size: 4})
    save_weights(path, state, metadata, dtype=torch.float32)
    return path


@pytest.fixture(scope="module", params=["random", "trained"])
def any_weights(request: pytest.FixtureRequest, random_weights: Path) -> Path:
    if request.param == "trained" and not TRAINED.is_file():
        pytest.skip("needs trained weights, kept outside the repository")
    return random_weights if request.param == "random" else TRAINED


@pytest.fixture(scope="module")
def weights(random_weights: Path) -> Weights:
    return load_weights(random_weights, model=MODEL)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared_cache")


@pytest.fixture(autouse=True)
def cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GCNV2_ROS_CACHE", str(shared_cache))
    return shared_cache


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GCNV2_ROS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    colour = [data.astronaut(), data.coffee(), data.chelsea()]
    return [data.camera(), *(np.asarray(photo.mean(axis=2), np.uint8) for photo in colour)]


def extractor(runtime: str, path: Path, decode: DecodeOptions | None = None) -> Extractor:
    pytest.importorskip(runtime)
    options = ExtractorOptions(weights=str(path), runtime=runtime, device="cpu", threads=1)
    return create_extractor(options, DecodeOptions(max_keypoints=500) if decode is None else decode)


def runtime_of(name: str, weights: Weights, **options: str) -> Runtime:
    if name in ENGINES:
        pytest.importorskip(name)
    chosen: dict[str, Any] = {"runtime": name, "device": "cpu", "threads": 1, **options}
    return create_runtime(ExtractorOptions(**chosen), weights)


def assert_agree(expected: Features, got: Features) -> None:
    apart = np.abs(expected.uv[:, None] - got.uv[None]).max(axis=2)
    in_expected, in_got = np.nonzero(apart < 0.1)
    # At least 99 % in common; of fewer than a hundred all but one, which may be the last above the threshold.
    count = max(len(expected), len(got))
    assert count - len(in_expected) <= max(1, 0.01 * count)
    bits = [
        np.unpackbits(features.descriptors[index].view(np.uint8))
        for features, index in ((expected, in_expected), (got, in_got))
    ]
    assert (bits[0] != bits[1]).sum() <= 0.005 * bits[0].size


def batch_of(*images: np.ndarray) -> np.ndarray:
    return np.stack([image[None].astype(np.float32) / 255 for image in images])


@pytest.mark.parametrize("engine", ENGINES)
def test_runtimes_agree_on_photographs_of_changing_size(
    engine: str, any_weights: Path, photographs: list[np.ndarray]
) -> None:
    # Where all pixels are candidates, two scores that differ by rounding alone decide about a whole chain of others.
    # Fixed images are read in that way too, in the next test.
    decode = DecodeOptions(max_keypoints=500, candidates="peaks")
    with extractor("torch", any_weights, decode) as reference, extractor(engine, any_weights, decode) as tried:

        @settings(max_examples=8, suppress_health_check=list(HealthCheck))
        @given(st.data())
        def agree(draw: st.DataObject) -> None:
            photo = draw.draw(st.sampled_from(range(len(photographs))), label="photograph")
            width, height = draw.draw(st.integers(64, 260), "width"), draw.draw(st.integers(64, 200), "height")
            left, top = draw.draw(st.integers(0, 120), "left"), draw.draw(st.integers(0, 90), "top")
            image = np.ascontiguousarray(photographs[photo][top : top + height, left : left + width])
            assert_agree(reference.extract(image), tried.extract(image))

        agree()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_gives_what_its_images_give(engine: str, any_weights: Path, photographs: list[np.ndarray]) -> None:
    images = [np.ascontiguousarray(photo[80:230, 100:300]) for photo in photographs[:3]]
    images.append(np.ascontiguousarray(photographs[3][100:196, 100:228]))
    with extractor("torch", any_weights) as reference, extractor(engine, any_weights) as tried:
        assert tried.info.runtime == engine
        assert (tried.info.device, tried.info.precision) == ("cpu", "fp32")
        for image, features in zip(images, tried.extract_batch(images)):
            assert len(features) > 20
            assert_agree(reference.extract(image), features)
            assert_agree(tried.extract(image), features)


@pytest.mark.parametrize("model", ["gcnv2", "gcnv2_mobile"])
def test_the_other_networks_run_in_every_runtime(model: str, tmp_path: Path, photographs: list[np.ndarray]) -> None:
    torch.manual_seed(2)
    save_weights(tmp_path / "w.safetensors", create_network(model).state_dict(), WeightsMetadata(model))
    loaded = load_weights(tmp_path / "w.safetensors", model=model)
    batch = batch_of(photographs[0][:96, :64], photographs[1][:96, :64])
    expected = runtime_of("torch", loaded, model=model).infer(batch)
    for engine in ENGINES:
        got = runtime_of(engine, loaded, model=model).infer(batch)
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(got.descriptors, expected.descriptors, atol=1e-4)
        described = runtime_of(engine, loaded, model=model).describe(batch)
        np.testing.assert_allclose(described, expected.descriptors, atol=1e-4)


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("detector", [True, False])
def test_descriptors_alone_are_the_same_whatever_the_runtime_was_built_for(
    engine: str, detector: bool, weights: Weights, photographs: list[np.ndarray]
) -> None:
    options = ExtractorOptions(runtime=engine, input_width=128, input_height=96)
    runtime = create_runtime(options, weights, detector=detector)
    for image in (photographs[0][:96, :128], photographs[0][:64, :96]):
        described, whole = runtime.describe(batch_of(image)), runtime.infer(batch_of(image))
        np.testing.assert_allclose(described, whole.descriptors, atol=1e-5)
        assert whole.scores.shape == (1, 1, *image.shape)
    before = described.copy()
    runtime.describe(batch_of(photographs[1][:64, :96]))
    np.testing.assert_array_equal(described, before)
    runtime.close()
    with pytest.raises(ExtractionError, match="closed"):
        runtime.describe(batch_of(photographs[0][:96, :128]))


@pytest.mark.parametrize("engine", ENGINES)
def test_results_stay_as_they_are_when_the_next_image_comes(
    engine: str, weights: Weights, photographs: list[np.ndarray]
) -> None:
    runtime = runtime_of(engine, weights)
    first = runtime.infer(batch_of(photographs[0][:96, :128]))
    scores, descriptors = first.scores.copy(), first.descriptors.copy()
    runtime.infer(batch_of(photographs[1][:96, :128]))
    np.testing.assert_array_equal(first.scores, scores)
    np.testing.assert_array_equal(first.descriptors, descriptors)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closed_runtime_says_so(engine: str, weights: Weights) -> None:
    runtime = runtime_of(engine, weights)
    runtime.close()
    runtime.close()
    with pytest.raises(ExtractionError, match="closed"):
        runtime.infer(np.zeros((1, 1, 64, 64), np.float32))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sound_cache_is_used_as_it_is(
    engine: str, weights: Weights, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime_of(engine, weights).close()
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in own_cache.iterdir()}
    assert len(before) == (4 if engine == "openvino" else 2)
    # Without onnx nothing can be exported, so this model comes from the cache.
    monkeypatch.setitem(sys.modules, "onnx", None)
    runtime_of(engine, weights).close()
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in own_cache.iterdir()} == before


def stored(cache: Path, suffix: str, weights: Weights) -> Path:
    """The model of these weights in the cache."""
    checksums = cache.glob(f"*{suffix}.json")
    (found,) = [path for path in checksums if weights.sha256 in path.read_text()]
    return found.with_suffix("")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lose_checksum(path: Path) -> None:
    path.with_name(path.name + ".json").unlink()


def damage_checksum(path: Path) -> None:
    path.with_name(path.name + ".json").write_text('{"sha256": "')


def pretend_other_version(path: Path) -> None:
    checksum = path.with_name(path.name + ".json")
    entries = json.loads(checksum.read_text())
    entries["key"]["exporter"] = "torch 1.0"
    checksum.write_text(json.dumps(entries))


@pytest.mark.parametrize("damage", [flip, truncate, empty, lose_checksum, damage_checksum, pretend_other_version])
@pytest.mark.parametrize(("engine", "suffix"), [("openvino", ".openvino"), ("onnxruntime", ".elementary.onnx")])
def test_a_damaged_or_stale_cache_is_built_again(
    engine: str,
    suffix: str,
    damage: types.FunctionType,
    weights: Weights,
    cache: Path,
    photographs: list[np.ndarray],
) -> None:
    batch = batch_of(photographs[0][:96, :128])
    expected = runtime_of("torch", weights).infer(batch)
    runtime_of(engine, weights).close()
    path = stored(cache, suffix, weights)
    checksum = path.with_name(path.name + ".json")
    key = json.loads(checksum.read_text())["key"]
    damage(path)
    got = runtime_of(engine, weights).infer(batch)
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(got.descriptors, expected.descriptors, atol=1e-4)
    assert json.loads(checksum.read_text()) == {"sha256": sha256_of(path), "key": key}


def test_what_openvino_refuses_is_built_again_though_its_checksum_is_right(
    weights: Weights, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime_of("openvino", weights).close()
    path = stored(cache, ".openvino", weights)
    checksum = path.with_name(path.name + ".json")
    path.write_bytes(b"of another version")
    entries = {**json.loads(checksum.read_text()), "sha256": hashlib.sha256(b"of another version").hexdigest()}
    checksum.write_text(json.dumps(entries))
    runtime_of("openvino", weights).infer(np.zeros((1, 1, 64, 64), np.float32))
    assert json.loads(checksum.read_text())["sha256"] == sha256_of(path)
    assert "OpenVINO refuses" in caplog.text
    caplog.clear()
    runtime_of("openvino", weights).close()
    assert not caplog.text


def test_a_network_compiled_for_one_size_takes_all_others_too(
    weights: Weights, own_cache: Path, photographs: list[np.ndarray]
) -> None:
    pytest.importorskip("openvino")
    options = ExtractorOptions(runtime="openvino", device="cpu", threads=1, input_width=120, input_height=96)
    runtime = create_runtime(options, weights)
    sizes = {json.loads(path.read_text())["key"]["size"] for path in own_cache.glob("*.openvino.json")}
    assert sizes == {"open", "1x1x96x128"}
    reference = runtime_of("torch", weights)
    first, second = (photo[:96, :128] for photo in photographs[:2])
    for batch in (batch_of(first), batch_of(first, second), batch_of(photographs[0][:64, :80]), batch_of(second)):
        expected, got = reference.infer(batch), runtime.infer(batch)
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(got.descriptors, expected.descriptors, atol=1e-4)


def test_other_weights_are_other_files(
    weights: Weights, own_cache: Path, tmp_path: Path, photographs: list[np.ndarray]
) -> None:
    state = {name: value.clone() for name, value in weights.state_dict.items()}
    state["convD_2.bias"] += 1.0
    save_weights(tmp_path / "other.safetensors", state, weights.metadata, dtype=torch.float32)
    other = load_weights(tmp_path / "other.safetensors", model=MODEL)
    batch = batch_of(photographs[0][:96, :128])
    scores, other_scores = (runtime_of("onnxruntime", chosen).infer(batch).scores for chosen in (weights, other))
    assert (other_scores > scores).all()
    assert len(list(own_cache.glob("*.onnx"))) == 2


def test_a_cache_that_cannot_be_written_is_done_without(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GCNV2_ROS_CACHE", str(tmp_path / "file" / "cache"))
    runtime_of("onnxruntime", weights).infer(np.zeros((1, 1, 64, 64), np.float32))
    assert "GCNV2_ROS_CACHE" in caplog.text


@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_a_device_of_intel_that_is_not_there_is_told_with_those_that_are(runtime: str, weights: Weights) -> None:
    openvino = pytest.importorskip("openvino")
    if openvino.Core().available_devices != ["CPU"]:
        pytest.skip("about machines with nothing but a CPU")
    with pytest.raises(ExtractionError, match=r"finds no GPU\.1 here, .* only CPU; install its driver"):
        runtime_of(runtime, weights, device="gpu:1")


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A machine with an NPU, which is the CPU by another name; notes what was compiled: for what, and in which size."""
    openvino = pytest.importorskip("openvino")
    compiled = []

    class Core:
        """OpenVINO's, but for the name of the device and its arithmetic."""

        def __init__(self) -> None:
            self._core = real()
            self.available_devices = ["CPU", "NPU"]

        def read_model(self, content: Any) -> Any:
            return self._core.read_model(content)

        def get_property(self, device: str, name: str) -> str:
            return f"{device} {self._core.get_property('CPU', name)}"

        def compile_model(self, network: Any, device: str, settings: dict[str, Any]) -> Any:
            compiled.append((f"{device} {settings['INFERENCE_PRECISION_HINT']}", str(network.input().partial_shape)))
            return self._core.compile_model(network, "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"})

        def import_model(self, content: bytes, device: str, settings: dict[str, Any]) -> Any:
            return self._core.import_model(content, "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"})

    real = openvino.Core
    monkeypatch.setattr(openvino, "Core", Core)
    return compiled


@pytest.mark.usefixtures("own_cache")
def test_an_npu_runs_images_of_one_size_one_at_a_time(
    npu: list[tuple[str, str]], weights: Weights, photographs: list[np.ndarray]
) -> None:
    options = ExtractorOptions(runtime="openvino", device="npu", input_width=120, input_height=96)
    runtime = create_runtime(options, weights)
    assert (runtime.device, runtime.precision) == ("npu", "fp16")
    batch = batch_of(photographs[0][:96, :128], photographs[1][:96, :128])
    expected = runtime_of("torch", weights).infer(batch)
    got = runtime.infer(batch)
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(got.descriptors, expected.descriptors, atol=1e-4)
    np.testing.assert_allclose(runtime.describe(batch), expected.descriptors, atol=1e-4)
    assert npu == [("NPU f16", "[1,1,96,128]")] * 2
    with pytest.raises(ExtractionError, match=r"for an NPU and images of 128x96, and was given one of 64x64"):
        runtime.infer(batch[:, :, :64, :64])


def test_compiled_torch_gives_what_torch_gives(weights: Weights, photographs: list[np.ndarray]) -> None:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler")
    options = ExtractorOptions(runtime="torch_compile", device="cpu", input_width=90, input_height=64)
    runtime = create_runtime(options, weights)
    batch = batch_of(photographs[0][:64, :96])
    expected = runtime_of("torch", weights).infer(batch)
    got = runtime.infer(batch)
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(got.descriptors, expected.descriptors, atol=1e-5)
    np.testing.assert_allclose(runtime.describe(batch), expected.descriptors, atol=1e-5)
    runtime.close()
    with pytest.raises(ExtractionError, match="closed"):
        runtime.infer(batch)


def test_compiled_torch_keeps_the_weights_of_two_extractors_apart(
    weights: Weights, photographs: list[np.ndarray]
) -> None:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler")
    state = {name: value * 0.9 for name, value in weights.state_dict.items()}
    options = ExtractorOptions(runtime="torch_compile", device="cpu")
    batch = batch_of(photographs[0][:64, :96])
    sets = (weights, replace(weights, state_dict=state))
    expected = [runtime_of("torch", chosen).describe(batch) for chosen in sets]
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    runtimes = [create_runtime(options, chosen) for chosen in sets]
    for _ in range(2):
        for runtime, descriptors in zip(runtimes, expected):
            np.testing.assert_allclose(runtime.describe(batch), descriptors, atol=1e-5)


@pytest.mark.parametrize(("version", "graphs"), [("2.9.1+cu128", False), ("2.13.0+cu130", True), ("3.0.0", True)])
def test_compiled_torch_has_cuda_graphs_where_they_serve_every_thread(
    version: str, graphs: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gcnv2_ros.extraction.runtimes.torch_compiled import compiler_options

    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(version))
    assert compiler_options(torch.device("cuda", 0)) == ({"triton.cudagraphs": True} if graphs else {})
    assert (f"those of torch {version} serve only the thread that compiled" in caplog.text) is not graphs
    caplog.clear()
    assert compiler_options(torch.device("cpu")) == {}
    assert not caplog.text


@pytest.mark.parametrize("detector", [True, False])
def test_compiled_torch_without_a_compiler_says_so_at_once(detector: bool, weights: Weights) -> None:
    from torch._inductor import config

    options = ExtractorOptions(runtime="torch_compile", device="cpu", input_width=64, input_height=80)
    without = config.patch({"cpp.cxx": (None, "no_such_compiler")})
    with (
        without,
        pytest.raises(ExtractionError, match=r"cannot compile the network: .*no_such_compiler.*apt install g\+\+"),
    ):
        create_runtime(options, weights, detector=detector)


def test_onnx_runtime_s_threads_do_not_wait_busily(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    settings = library.SessionOptions()
    monkeypatch.setattr(library, "SessionOptions", lambda: settings)
    runtime_of("onnxruntime", weights).infer(np.zeros((1, 1, 64, 64), np.float32))
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "0"


class OnnxRuntimeWithTensorRT(types.ModuleType):
    """Says that it has NVIDIA's providers, and notes which it is asked for."""

    def __init__(self, version: str = "1.99") -> None:
        super().__init__("onnxruntime")
        self.__version__ = version
        self.asked_for: list[Any] = []

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    class SessionOptions:
        def add_session_config_entry(self, key: str, value: str) -> None:
            """Takes it, as the library does."""

    def InferenceSession(self, content: bytes, settings: object, providers: list[Any]) -> types.SimpleNamespace:
        self.asked_for = providers
        return types.SimpleNamespace(get_providers=lambda: [entry[0] for entry in providers[:-1]])


def provider_options(
    library: OnnxRuntimeWithTensorRT, weights: Weights, device: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `library` is told for TensorRT and for CUDA."""
    monkeypatch.setitem(sys.modules, "onnxruntime", library)
    runtime = create_runtime(ExtractorOptions(runtime="onnxruntime", device=device), weights)
    assert runtime.device == device
    (tensorrt, options), (cuda, cuda_options), cpu = library.asked_for
    assert (tensorrt, cuda, cpu) == tuple(library.get_available_providers())
    return options, cuda_options


def tensorrt_options(weights: Weights, device: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    options, cuda_options = provider_options(OnnxRuntimeWithTensorRT(), weights, device, monkeypatch)
    assert cuda_options == {"device_id": options["device_id"], "use_tf32": 0}
    return options


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    ("version", "options"), [("1.17.3", {}), ("1.18.0", {"use_tf32": 0}), ("2.0", {"use_tf32": 0})]
)
def test_onnx_runtime_s_cuda_computes_fp32_as_such_where_it_can_be_told(
    version: str, options: dict[str, Any], weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, told = provider_options(OnnxRuntimeWithTensorRT(version), weights, "cuda:0", monkeypatch)
    assert told == {"device_id": 0, **options}


def test_torch_s_fp32_on_cuda_is_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    from gcnv2_ros.extraction.runtimes.torch_eager import keep_fp32_exact

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    keep_fp32_exact(torch.device("cpu"))
    assert torch.backends.cudnn.allow_tf32
    keep_fp32_exact(torch.device("cuda", 0))
    assert not torch.backends.cudnn.allow_tf32


def test_tensorrt_keeps_its_engines_in_a_folder_for_these_weights_and_this_device(
    weights: Weights, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = tensorrt_options(weights, "cuda:1", monkeypatch)
    folder = Path(options["trt_engine_cache_path"])
    assert folder.is_dir()
    assert folder.parent == own_cache
    assert options == {
        "device_id": 1,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }
    assert tensorrt_options(weights, "cuda:1", monkeypatch) == options
    save_weights(tmp_path / "w.safetensors", weights.state_dict, weights.metadata, dtype=torch.float16)
    other = load_weights(tmp_path / "w.safetensors", model=MODEL)
    folders = {
        tensorrt_options(*case, monkeypatch)["trt_engine_cache_path"]
        for case in ((other, "cuda:1"), (weights, "cuda:0"))
    }
    assert len(folders | {str(folder)}) == 3


def test_tensorrt_does_without_a_folder_that_cannot_be_made(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GCNV2_ROS_CACHE", str(tmp_path / "file" / "cache"))
    assert tensorrt_options(weights, "cuda:0", monkeypatch) == {"device_id": 0}
    assert "GCNV2_ROS_CACHE" in caplog.text


_PROCESS = """
import hashlib, os, sys
from pathlib import Path
from gcnv2_ros.extraction.export import cached_model

def build():
    # Different in each process, so that a mix of two processes' files would be found out.
    content = os.urandom(50_000)
    return hashlib.sha256(content).digest() + content

folder = Path(sys.argv[1])
for turn in range(60):
    model = cached_model({"model": "shared"}, ".bin", build)
    assert hashlib.sha256(model[32:]).digest() == model[:32], f"half a model in turn {turn}"
    if turn % 3 == 0:
        for path in folder.glob("shared*.bin"):
            path.write_bytes(b"damaged by another program")
"""


def test_processes_that_share_a_cache_never_see_half_a_model(own_cache: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", _PROCESS, str(own_cache)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert not list(own_cache.glob(".*")), "temporary files were left"


def test_the_cache_is_where_the_platform_wants_it_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() is not None
    monkeypatch.delenv("GCNV2_ROS_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere" / "gcnv2_ros"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "gcnv2_ros"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "gcnv2_ros"


def test_a_runtime_that_is_none_is_refused_by_name(weights: Weights) -> None:
    with pytest.raises(
        ExtractionError, match=r"no runtime 'tensorflow'; choose auto or openvino, onnxruntime, torch, torch_compile"
    ):
        runtime_of("tensorflow", weights)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_runtime_that_is_not_installed_says_how_to_install_it(
    engine: str, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(MissingDependencyError, match=rf"runtime {engine} needs .* pip install onnx {engine}"):
        create_runtime(ExtractorOptions(runtime=engine), weights)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_that_cannot_be_exported_says_what_is_missing(
    engine: str, weights: Weights, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"exporting a network .* pip install onnx"):
        runtime_of(engine, weights)


def test_auto_takes_the_next_best_where_one_is_not_installed(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ENGINES:
        pytest.importorskip(engine)
    left = list(AUTO_ORDER)
    while left:
        assert runtime_of("auto", weights).name == left[0]
        monkeypatch.setitem(sys.modules, left.pop(0), None) if len(left) > 1 else left.pop()


def test_auto_takes_torch_where_nothing_can_be_exported(
    weights: Weights, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert runtime_of("auto", weights).name == "torch"


def test_auto_passes_over_a_library_that_fails_and_tells_of_it(
    weights: Weights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    too_old = types.ModuleType("openvino")
    too_old.__version__ = "2022.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openvino", too_old)
    with caplog.at_level(logging.WARNING):
        assert runtime_of("auto", weights).name == "onnxruntime"
    assert "openvino is passed over: OpenVINO 2022.1 cannot load gcnv2_tiny" in caplog.text
    with pytest.raises(ExtractionError, match=r"OpenVINO 2022\.1 cannot load gcnv2_tiny"):
        runtime_of("openvino", weights)


BROKEN_IMPORTS = (
    "raise ImportError('libtbb.so.12: cannot open shared object file')",
    "import a_module_that_it_needs",
    "raise AttributeError('_ARRAY_API not found')",
)


@pytest.mark.parametrize("failure", BROKEN_IMPORTS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_library_that_cannot_be_imported_is_not_taken_for_one_that_is_not_installed(
    engine: str,
    failure: str,
    weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = next(name for name in ENGINES if name != engine)
    pytest.importorskip(other)
    break_library(engine, failure, tmp_path, monkeypatch)
    with pytest.raises(LibraryError, match=rf"runtime {engine} needs .* is installed and cannot be imported \("):
        runtime_of_any(engine, weights)
    assert runtime_of_any("auto", weights).name == other
    passed_over = f"the runtime {engine} is passed over: the runtime {engine} needs"
    assert (passed_over in caplog.text) is (engine == AUTO_ORDER[0])


def test_auto_passes_over_a_broken_library_for_eight_bits_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    break_library("openvino", BROKEN_IMPORTS[0], tmp_path, monkeypatch)
    shipped = load_weights("default", model=MODEL)
    assert runtime_of_any("auto", shipped, precision="int8").name == "onnxruntime"
    assert "the runtime openvino is passed over" in caplog.text
    assert "libtbb.so.12" in caplog.text


def break_library(name: str, failure: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module of that name first that fails when it is imported."""
    (folder / f"{name}.py").write_text(failure + "\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def runtime_of_any(name: str, weights: Weights, **options: str) -> Runtime:
    """As `runtime_of`, whether or not its library can be imported."""
    return create_runtime(ExtractorOptions(runtime=name, device="cpu", threads=1, **options), weights)


@pytest.mark.usefixtures("own_cache")
def test_auto_takes_torch_for_a_network_that_no_other_runtime_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    info = tmp_path / "unexportable-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unexportable\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gcnv2_ros.networks]\nunexportable = unexportable_network:Network\n")
    (tmp_path / "unexportable_network.py").write_text(
        "from gcnv2_ros.networks import GCNv2Tiny\n"
        "class Network(GCNv2Tiny):\n"
        "    name = 'unexportable'\n"
        "    def encode(self, image):\n"
        "        return super().encode(image).erfinv()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(4)
    save_weights(
        tmp_path / "w.safetensors", create_network("unexportable").state_dict(), WeightsMetadata("unexportable")
    )
    loaded = load_weights(tmp_path / "w.safetensors", model="unexportable")
    for engine in ENGINES:
        with pytest.raises(ExtractionError, match=r"cannot load unexportable: .*erfinv"):
            runtime_of(engine, loaded, model="unexportable")
    assert runtime_of("auto", loaded, model="unexportable").name == "torch"
    for engine in ENGINES:
        assert f"the runtime {engine} is passed over" in caplog.text


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("openvino", {"device": "cuda"}, "openvino runs on cpu, gpu, npu, not on cuda"),
        ("openvino", {"precision": "bf16"}, "openvino computes in fp32 or int8 on cpu, not in bf16"),
        ("openvino", {"device": "gpu", "precision": "int8"}, "openvino computes in fp32 or fp16 on gpu, not in int8"),
        ("openvino", {"device": "npu"}, "needs images of one size; set input_width and input_height"),
        ("onnxruntime", {"device": "npu"}, "device npu is one of Intel's, which the runtime openvino alone runs on"),
        ("torch", {"device": "gpu:1"}, "device gpu:1 is one of Intel's, which the runtime openvino alone runs on"),
        ("torch_compile", {"precision": "int8"}, "torch_compile computes in fp32, fp16, bf16, not in int8"),
        ("onnxruntime", {"precision": "fp16"}, "onnxruntime computes in fp32 or int8, not in fp16"),
        ("onnxruntime", {"device": "cuda:1"}, "device cuda:1 was asked for, but"),
        ("onnxruntime", {"precision": "int8", "device": "cuda"}, "in int8 on the CPU only, not on cuda"),
        ("torch", {"precision": "int8"}, "torch computes in fp32, fp16, bf16, not in int8"),
        ("auto", {"precision": "fp16"}, "fp16 needs a CUDA device"),
    ],
)
def test_devices_and_precisions_that_a_runtime_does_not_do_are_refused(
    engine: str, options: dict[str, str], message: str, weights: Weights
) -> None:
    if torch.cuda.is_available():
        pytest.skip("about machines without a CUDA device")
    with pytest.raises(ExtractionError, match=message):
        runtime_of(engine, weights, **options)


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        ((), [(1, 96, 128), (3, 64, 64)]),
        (("--input-size", "128x96"), [(1, 96, 128)]),
        (("--input-size", "64x80", "--batch", "2"), [(2, 80, 64)]),
    ],
)
def test_an_exported_file_runs_elsewhere_and_says_what_it_is(
    arguments: tuple[str, ...],
    sizes: list[tuple[int, int, int]],
    weights: Weights,
    tmp_path: Path,
    photographs: list[np.ndarray],
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    target = tmp_path / "network.onnx"
    assert main(["export", MODEL, str(target), "--weights", str(weights.path), *arguments]) == 0
    session = onnxruntime.InferenceSession(target.read_bytes(), providers=["CPUExecutionProvider"])
    info = json.loads(session.get_modelmeta().custom_metadata_map["gcnv2_ros"])
    assert info["model"] == MODEL
    assert info["weights_sha256"] == weights.sha256
    assert (info["sampling"], info["bit_order"], info["stride"]) == ("half_pixel", "msb_first", 16)
    assert info["score_thresholds"] == {"320x240": 0.5}
    assert (info["smoothing"], info["nms_radius"], info["candidates"]) == ({"320x240": 0.0}, {"320x240": 4}, "all")
    assert info["input_size"] == ([sizes[0][2], sizes[0][1]] if arguments else None)
    reference = runtime_of("torch", weights)
    for count, height, width in sizes:
        batch = batch_of(*(photo[:height, :width] for photo in photographs[:count]))
        descriptors, scores = session.run(["descriptors", "scores"], {"image": batch})
        expected = reference.infer(batch)
        np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(descriptors, expected.descriptors, atol=1e-4)


def test_an_exported_file_says_how_learned_sampling_reads_its_descriptors(weights: Weights, tmp_path: Path) -> None:
    source, target = tmp_path / "learned.safetensors", tmp_path / "network.onnx"
    kernel = torch.linspace(-1, 1, 2 * 2 * 3 * 256).reshape(2, 2, 3, 256)
    mixing = torch.linspace(-1, 1, 4 * 64 * 64).reshape(4, 64, 64)
    metadata = replace(weights.metadata, sampling="learned")
    save_weights(
        source, weights.state_dict, metadata, dtype=torch.float32, learned_sampling=LearnedSampling(kernel, mixing)
    )
    assert main(["export", MODEL, str(target), "--weights", str(source)]) == 0
    (entry,) = onnx.load(str(target)).metadata_props
    info = json.loads(entry.value)
    assert info["sampling"] == "learned"
    np.testing.assert_allclose(info["sampling_kernel"], kernel, atol=1e-5)
    np.testing.assert_allclose(info["sampling_mixing"], mixing, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input-size", "322x243"), "got 322x243; export 336x256 and pad the image"),
        (("--input-size", "0x0"), "both at least 1, e.g. 320x240, got '0x0'"),
        (("--input-size", "320"), "WIDTHxHEIGHT"),
        (("--input-size", "320x240", "--batch", "0"), "batch must be at least 1, got 0"),
        (("--batch", "2"), "a batch of 2 needs an input size"),
    ],
)
def test_an_export_that_makes_no_sense_is_refused(
    arguments: tuple[str, ...],
    message: str,
    random_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "network.onnx"
    assert main(["export", MODEL, str(target), "--weights", str(random_weights), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not target.exists()


def test_an_export_of_no_pixels_is_refused(random_weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "network.onnx"
    with pytest.raises(ExtractionError, match="positive multiple of 16"):
        export_onnx(target, MODEL, load_weights(random_weights, model=MODEL), input_size=(0, 0))
    assert not target.exists()


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_weights_without_a_file_are_refused_rather_than_confused(runtime: str) -> None:
    pytest.importorskip(runtime)
    weights = Weights(create_network("gcnv2_tiny").state_dict(), WeightsMetadata("gcnv2_tiny"), "", Path("in-memory"))
    with pytest.raises(ExtractionError, match="in memory only cannot be cached"):
        create_runtime(ExtractorOptions(runtime=runtime), weights)
