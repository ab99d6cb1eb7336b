# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures what the extractor does, and its report is complete; how long it takes is no matter here."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gcnv2_ros.benchmarking.contenders import (
    DESCRIBED_EACH,
    EXTRACTION,
    PYTHON_SUPPRESSION,
    STAGES,
    NetworkContender,
    OrbContender,
    OriginalContender,
    image_message,
    threshold_of_its_kind,
)
from gcnv2_ros.benchmarking.machine import forward_gflop
from gcnv2_ros.benchmarking.node import against_forward, measure_node, node_conditions
from gcnv2_ros.benchmarking.pace import paced_seconds
from gcnv2_ros.benchmarking.program import longest_seconds, run_program
from gcnv2_ros.benchmarking.run import BenchOptions
from gcnv2_ros.cli.main import main
from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.weights import load_weights

data = pytest.importorskip("skimage.data")

MODEL = "gcnv2_tiny"
OPTIONS = ExtractorOptions(runtime="torch", device="cpu", input_width=160, input_height=128, threads=1)


@pytest.fixture(scope="module")
def colour() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[:240, :320, ::-1])


def test_the_stages_give_what_the_extractor_gives(colour: np.ndarray) -> None:
    gray = np.asarray(create_gray(colour))
    decode = DecodeOptions(max_keypoints=200)
    contender = NetworkContender(OPTIONS, load_weights("default", model=MODEL), decode)
    measured = contender.run(image_message(colour))
    assert tuple(measured.stages) == STAGES
    assert all(seconds > 0.0 for seconds in measured.stages.values())
    with create_extractor(OPTIONS, decode) as extractor:
        expected = extractor.extract(gray)
    assert len(expected) > 20
    for name in ("uv", "response", "descriptors", "size"):
        np.testing.assert_array_equal(getattr(measured.features, name), getattr(expected, name))


def create_gray(colour: np.ndarray) -> np.ndarray:
    from gcnv2_ros.messages.pixels import converted_pixels

    return converted_pixels(image_message(colour), "mono")


def test_the_original_pipeline_finds_what_is_found_without_its_own_habits(colour: np.ndarray) -> None:
    weights = load_weights("default", model=MODEL)
    decode = DecodeOptions(
        max_keypoints=200,
        score_threshold=0.05,
        smoothing=0.0,
        nms_radius=4,
        subpixel=False,
        candidates="all",
        detector="network",
    )
    original = OriginalContender(OPTIONS, weights, decode, score_threshold=0.05).run(image_message(colour)).features
    ours = NetworkContender(OPTIONS, weights, decode).run(image_message(colour)).features
    assert len(ours) > 20
    np.testing.assert_allclose(original.uv, ours.uv)
    # The same sums in another order.
    np.testing.assert_allclose(original.response, ours.response, atol=1e-5)


@pytest.mark.parametrize("wanted", [100, 1000])
def test_the_original_pipeline_describes_a_few_points_for_each_keypoint_wanted(wanted: int, colour: np.ndarray) -> None:
    weights = load_weights("default", model=MODEL)
    decode = DecodeOptions(max_keypoints=wanted)
    threshold = threshold_of_its_kind(OPTIONS, weights, decode, [colour])
    measured = OriginalContender(OPTIONS, weights, decode, score_threshold=threshold).run(image_message(colour))
    # The traced network rounds otherwise than the eager one.
    assert measured.described == pytest.approx(DESCRIBED_EACH * wanted, rel=0.01)
    assert 0 < len(measured.features) <= wanted


def test_a_small_network_input_leaves_the_original_pipeline_all_of_its_pixels_but_one(colour: np.ndarray) -> None:
    weights = load_weights("default", model=MODEL)
    options = replace(OPTIONS, input_width=64, input_height=48)
    threshold = threshold_of_its_kind(options, weights, DecodeOptions(max_keypoints=2000), [colour])
    contender = OriginalContender(options, weights, DecodeOptions(), score_threshold=threshold)
    assert contender.run(image_message(colour)).described == pytest.approx(64 * 48, abs=8)


def test_orb_is_run_with_the_same_budget(colour: np.ndarray) -> None:
    features = OrbContender(DecodeOptions(max_keypoints=150)).run(image_message(colour)).features
    assert 100 < len(features) <= 150


def test_operations_are_those_of_the_published_network() -> None:
    assert forward_gflop(MODEL, 320, 240) == pytest.approx(1.28, abs=0.05)
    # Of ten convolutions of the tiny network the detector has a large and a small one.
    assert forward_gflop(MODEL, 320, 240, detector=False) == pytest.approx(1.06, abs=0.05)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, colour: np.ndarray) -> Path:
    import cv2

    folder = tmp_path_factory.mktemp("bench")
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "0.png"), colour)
    shutil.copy(load_weights("default", model=MODEL).path, folder / "w.safetensors")
    arguments = ["--images", str(folder / "images"), "--weights", str(folder / "w.safetensors"), "--threads", "1"]
    arguments += ["--engines", "torch:fp32", "torch:int8", "--sizes", "64x64", "--budgets", "50", "--rounds", "2"]
    pytest.importorskip("matplotlib")
    assert main(["bench", *arguments, "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_the_report_is_complete(report: Path) -> None:
    read = json.loads((report / "bench.json").read_text())
    names = [entry["name"] for entry in read["runs"]]
    assert names == [f"{MODEL} torch fp32", "original pipeline", "cv2.ORB"]
    assert len(read["gemm_gflops"]) == 2
    assert min(read["gemm_gflops"]) > 0
    assert read["machine"]["processor"]
    (left_out,) = read["left_out"]
    assert left_out == f"{MODEL} torch int8"
    assert [(entry["runtime"], entry["precision"]) for entry in read["start_up"]] == [("torch", "fp32")]
    assert read["start_up"][0]["memory_mb"] > read["start_up"][0]["memory_before_mb"] > 10
    assert [(entry["name"], entry["threads"]) for entry in read["at_camera_rate"]] == [
        (f"{MODEL} torch fp32", 1),
        ("cv2.ORB", 0),
    ]
    for entry in read["at_camera_rate"]:
        assert 0 < entry["keypoints"] <= 50
        assert 0 < entry["extract_ms"]["p50"] <= entry["extract_ms"]["p99"]
        assert entry["processor_share"] == pytest.approx(entry["processor_ms"] / 1e3 * entry["hz"])
    for entry in (*read["runs"], *read["by_budget"]):
        stages = entry["stages_ms"]
        assert all(0 < stage["p50"] <= stage["p95"] <= stage["p99"] for stage in stages.values())
        # With two frames medians are means, which add up.
        assert sum(stage["p50"] for stage in stages.values()) == pytest.approx(entry["total_ms"]["p50"])
        assert entry["extract_ms"]["p50"] < entry["total_ms"]["p50"]
        assert set(entry["extract_ratio"]) >= {"cv2.ORB", "original pipeline"}
        assert entry["extract_ratio"][entry["name"]] == 1.0
        extraction = sum(stages[stage]["p50"] for stage in EXTRACTION if stage in stages)
        assert extraction == pytest.approx(entry["extract_ms"]["p50"])
        if entry["name"] == "original pipeline":
            assert "suppress" not in stages
            assert stages[PYTHON_SUPPRESSION]["p50"] > 0
            assert entry["described"] == pytest.approx(DESCRIBED_EACH * 50, rel=0.05)
        else:
            assert entry["described"] == entry["keypoints"]
    ours = read["runs"][0]
    assert ours["share_of_gemm_peak"] > 0
    assert tuple(ours["stages_ms"]) == STAGES


def test_the_tables_and_the_picture_show_every_contender(report: Path) -> None:
    tables = (report / "bench.md").read_text()
    for text in (f"{MODEL} torch fp32", "original pipeline", "cv2.ORB", f"Left out: {MODEL} torch int8"):
        assert text in tables
    rows = [line for line in tables.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    assert "| described | keypoints |" in rows[0]
    assert f"| {PYTHON_SUPPRESSION} |" in tables
    assert (report / "bench.png").stat().st_size > 5000


def test_on_another_device_the_peers_run_on_the_processor(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("matplotlib")
    # Most machines have no such device: its engine is then left out, and the peers are measured still.
    arguments = [
        "--device",
        "npu",
        "--engines",
        "openvino:fp16",
        "--sizes",
        "64x64",
        "--budgets",
        "50",
        "--rounds",
        "2",
    ]
    code = main(["bench", *arguments, "--images", "room:frames=1", "--out", str(tmp_path)])
    read = json.loads((tmp_path / "bench.json").read_text())
    assert code == len(read["left_out"])
    sentence = f"none of the engines works here, and only their peers were measured ({MODEL} openvino fp16: "
    assert (sentence in capsys.readouterr().err) == bool(code)
    devices = {entry["name"]: entry["device"] for entry in read["runs"]}
    assert devices["original pipeline"] == devices["cv2.ORB"] == "cpu"
    assert (f"{MODEL} openvino fp16" in read["left_out"]) == (f"{MODEL} openvino fp16" not in devices)
    assert "device npu, but cv2.ORB and the original pipeline on the CPU" in (tmp_path / "bench.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engines", "openvino"], "RUNTIME:PRECISION"),
        (
            ["--engines", "torch:fp32", "opnvino:int8", "--images", "nowhere"],
            "there is no runtime 'opnvino'; choose auto or openvino, onnxruntime, torch, torch_compile",
        ),
        (["--rounds", "0"], "--rounds must be 1 or more, got 0"),
        (["--budgets", "500", "0"], "--budgets must be 1 or more, got 0"),
        (["--node-frames", "0"], "--node-frames must be 1 or more, got 0"),
        (["--threads", "-1"], "--threads must be 0, for the engine's own choice, or more, got -1"),
        (["--sizes", "320"], "WIDTHxHEIGHT"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_what_is_done_busily_between_two_calls_counts_as_the_processor_s_time_but_not_the_call_s() -> None:
    calls = []
    stop = threading.Event()

    def wait_busily() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=wait_busily)
    thread.start()
    seconds = paced_seconds(lambda: calls.append(time.process_time()), hz=20.0, frames=4)
    stop.set()
    thread.join()
    assert len(calls) == 4
    assert seconds.shape == (4, 2)
    assert np.all(seconds >= 0)
    # Nearly all of the processor's time is that of the other thread, outside of the calls.
    assert seconds[:, 1].sum() > seconds[:, 0].sum()


def test_a_program_that_fails_is_told_with_what_it_measures_and_what_it_printed() -> None:
    given = {"image": "no_such_image.npy"}
    with pytest.raises(GCNv2Error, match=r"(?s)^orb at 30 Hz could not be measured: .*no_such_image\.npy"):
        run_program("pace", given, what="orb at 30 Hz")


SLOW_NUMPY = """
import sys
import time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            time.sleep(2)

sys.meta_path.insert(0, Slow())
"""


def test_the_seconds_of_importing_are_those_of_everything_that_is_imported(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_NUMPY)
    paths = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    found = run_program("start_up", {"model": "orb"}, what="the start of orb", environment=environment)
    assert found["import_seconds"] > 2


def test_a_program_that_hangs_is_ended_and_told_with_what_it_measures() -> None:
    given = {"options": {"model": "orb"}, "image": "none", "max_keypoints": 9, "hz": 30, "frames": 1}
    with pytest.raises(GCNv2Error, match=r"^orb at 30 Hz could not be measured: it was not done after 0\.001 s"):
        run_program("pace", given, what="orb at 30 Hz", longest=0.001)


@pytest.mark.parametrize(("frames", "hz", "passes"), [(20_000, 30.0, 1), (2, 0.001, 2), (600, 200.0, 2)])
def test_many_frames_or_a_slow_camera_are_no_hanging(frames: int, hz: float, passes: int) -> None:
    assert longest_seconds(frames, hz, passes=passes) > 500 + passes * frames / hz


def test_the_node_is_measured_with_the_weights_and_on_the_device_of_the_benchmark() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    options = BenchOptions(weights="other.safetensors", device="cpu", sizes=((64, 48),), budgets=(50,))
    conditions = node_conditions(options, "torch", "fp32", frames=5)
    assert [condition.frames for condition in conditions] == [5, 5, 5, 5, 20]
    assert {(condition.weights, condition.device) for condition in conditions} == {("other.safetensors", "cpu")}
    with pytest.raises(GCNv2Error, match=r"(?s)the node could not be measured: .*other\.safetensors"):
        measure_node(conditions[0], say=lambda text: None)
    with pytest.raises(GCNv2Error, match=r"(?s)the node could not be measured: .*cuda:99"):
        measure_node(replace(conditions[0], weights="default", device="cuda:99"), say=lambda text: None)


def test_a_run_of_the_node_is_put_beside_the_bare_forward_pass() -> None:
    run = {"output_hz": 200.0, "forward_ms": 4.0, "published_forward_ms": 5.0}
    beside = against_forward({**run, "inside_ms": {"p50": 5.0, "p99": 9.0}})
    assert (beside["inside_to_forward"], beside["output_times_forward"]) == (1.25, 0.8)
    assert (beside["inside_to_published_forward"], beside["output_times_published_forward"]) == (1.0, 1.0)
    unanswered = against_forward({**run, "inside_ms": None})
    assert unanswered["inside_to_forward"] is unanswered["inside_to_published_forward"] is None


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "kilted"}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "jazzy"}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_the_demonstration_of_a_source_tree_uses_the_shared_memory_profile(
    environment: dict[str, str], variable: str
) -> None:
    from gcnv2_ros.transport import large_images

    variables = large_images(environment)
    assert list(variables) == [variable]
    path = Path(variables[variable])
    assert path.name == "large_images.xml"
    assert path.is_file()
