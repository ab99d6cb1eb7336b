# SPDX-License-Identifier: Apache-2.0
"""The command line: extract, convert-weights, demo."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcnv2_ros import extraction
from gcnv2_ros.cli.main import main
from gcnv2_ros.networks import create_network
from gcnv2_ros.sequences import open_sequence
from gcnv2_ros.weights import load_weights


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (30, 40), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_NEAREST)
    path = tmp_path / "in.put.png"
    cv2.imwrite(str(path), image)
    return path


def test_extract_writes_arrays(picture: Path, tmp_path: Path) -> None:
    assert main(["extract", str(picture), "--model", "orb", "--max-keypoints", "50", "--out", str(tmp_path / "o")]) == 0
    with np.load(tmp_path / "o" / "in.put.npz", allow_pickle=False) as arrays:
        count = len(arrays["uv"])
        assert 10 < count <= 50
        assert arrays["uv"].shape == (count, 2)
        assert arrays["descriptors"].shape == (count, 32)
        assert arrays["image_size"].tolist() == [320, 240]
        assert json.loads(str(arrays["model_info"]))["model"] == "orb"


def test_extract_draws(picture: Path) -> None:
    assert main(["extract", str(picture), "--model", "orb", "--draw"]) == 0
    drawn = cv2.imread(str(picture.with_name("in.put.keypoints.png")))
    assert drawn.shape == (240, 320, 3)
    assert (drawn[..., 0] != drawn[..., 2]).mean() > 0.01


@pytest.mark.parametrize("names", [("a/1.png", "b/1.png"), ("a/1.png", "a/1.bmp"), ("a/1.png", "a/../a/1.png")])
@pytest.mark.parametrize("options", [(), ("--draw",)])
def test_extract_refuses_two_pictures_for_one_file(
    names: tuple[str, str], options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [tmp_path / name for name in names]
    for path in pictures:
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((64, 64), 7, np.uint8))
    out = tmp_path / "out"
    assert main(["extract", *map(str, pictures), "--model", "orb", "--out", str(out), *options]) == 1
    written = out / ("1.keypoints.png" if options else "1.npz")
    assert f"{pictures[0]} and {pictures[1]} would both be written to {written}" in capsys.readouterr().err
    assert not out.exists()


def test_extract_writes_pictures_of_one_name_beside_them(tmp_path: Path) -> None:
    pictures = [tmp_path / name / "1.png" for name in "ab"]
    for path in pictures:
        path.parent.mkdir()
        cv2.imwrite(str(path), np.full((64, 64), 7, np.uint8))
    assert main(["extract", *map(str, pictures), "--model", "orb"]) == 0
    assert all(path.with_suffix(".npz").is_file() for path in pictures)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no.png", "does not exist"),
        ("text.png", "cannot be read as a picture"),
        ("", "is a folder, and a picture was expected; give its files, "),
    ],
)
def test_extract_names_what_it_cannot_read(
    name: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "text.png").write_text("this is no picture")
    assert main(["extract", str(tmp_path / name), "--model", "orb"]) == 1
    error = capsys.readouterr().err
    assert name in error
    assert sentence in error


def test_extract_sees_a_picture_as_all_else_does(tmp_path: Path) -> None:
    """Not turned by an orientation tag, with the same gray of colours."""
    rng = np.random.default_rng(0)
    colours = cv2.resize(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_NEAREST)
    data = cv2.imencode(".jpg", colours)[1].tobytes()
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    exif = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01" + entry + b"\x00\x00\x00\x00"
    path = tmp_path / "turned.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert cv2.imread(str(path)).shape == (320, 240, 3), "the tag of this test must be one that OpenCV knows"
    assert main(["extract", str(path), "--model", "orb"]) == 0
    with extraction.create_extractor(extraction.ExtractorOptions(model="orb")) as extractor:
        expected = extractor.extract(open_sequence(tmp_path)[0].gray)
    with np.load(path.with_suffix(".npz")) as arrays:
        assert arrays["image_size"].tolist() == [320, 240]
        np.testing.assert_array_equal(arrays["uv"], expected.uv)
        np.testing.assert_array_equal(arrays["descriptors"], expected.descriptors)


@pytest.mark.parametrize("size", ["320", "axb", "320x"])
def test_a_wrong_size_is_one_sentence(size: str, picture: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["extract", str(picture), "--model", "orb", "--input-size", size]) == 1
    assert "WIDTHxHEIGHT" in capsys.readouterr().err


def test_output_below_a_file_is_one_line(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    (tmp_path / "file").write_text("")
    torch.save(create_network("gcnv2_tiny").state_dict(), tmp_path / "w.pt")
    below = tmp_path / "file" / "out"
    for arguments in (
        ["extract", str(picture), "--model", "orb", "--out", str(below)],
        ["convert-weights", str(tmp_path / "w.pt"), str(below / "w.safetensors")],
        ["export", "gcnv2_tiny", str(below / "t.onnx")],
        ["to-bag", "room:frames=1", str(below / "a.mcap")],
        ["replay", "room:frames=1", str(below / "a.mcap"), "--model", "orb"],
        ["view", "room:frames=1", "--out", str(below / "a.rrd"), "--model", "orb"],
        ["quantize", "gcnv2_tiny", "room:frames=1", "--out", str(below / "c.int8.json")],
    ):
        assert main(arguments) == 1
        sentence = f"{below} is to be a folder, and {tmp_path / 'file'} is none; remove it or name another folder"
        assert capsys.readouterr().err == f"gcnv2 {arguments[0]}: {sentence}\n"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no folder in which even root makes no file")
@pytest.mark.parametrize(
    "command",
    [
        "to-bag room:frames=1,width=64,height=48 /proc/x.mcap",
        "convert-weights default.safetensors /proc/x.safetensors",
        "extract in.put.png --model orb --out /proc",
    ],
)
def test_where_no_file_can_be_made_the_one_asked_for_is_named(
    command: str, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(picture.parent)
    Path("default.safetensors").symlink_to(load_weights("default", model="gcnv2_tiny").path)
    assert main(command.split()) == 1
    error = capsys.readouterr().err
    # Of users who are not root it is said beforehand that they may not write there.
    assert re.search(r"/proc(/x\.mcap|/x\.safetensors|/in\.put\.npz)?:? (cannot|there)", error), error
    assert "/." not in error


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("convert-weights w.pt new.pt", "new.pt: a weights file ends in .safetensors; name it new.safetensors"),
        ("export gcnv2_tiny new.txt", "new.txt: an ONNX file ends in .onnx; name it new.onnx"),
        ("extract p.png --model orb --weights w.pt", "the model orb has no weights, got 'w.pt'; leave weights out"),
        (
            "view room --out v.rrd --model sift --weights w.pt",
            "the model sift has no weights, got 'w.pt'; leave weights out",
        ),
        ("extract p.png --model obr", "there is no model 'obr' (did you mean 'orb'?); the models are gcnv2_tiny, "),
        ("extract p.png --model superpoint", "there is no model 'superpoint'; the models are gcnv2_tiny, "),
        ("extract p.png --model gcnv3", ", orb, sift, aliked-n16, aliked-n16rot\n"),
        (
            "quantize gcnv2_tiny nowhere --out c.int8.json --input-size 5x5",
            "input_width and input_height must both be 0 or at least 32, got 5 and 5",
        ),
        ("quantize gcnv2_tiny nowhere --out c.int8.json --count 0", "--count must be 1 or more, got 0"),
    ],
)
def test_what_a_command_does_not_take_is_one_sentence(
    command: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    if command.startswith("view"):
        pytest.importorskip("rerun", reason="needs rerun-sdk")
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_kind_of_model(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["extract", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "network (gcnv2_tiny, gcnv2, gcnv2_mobile), orb, sift, or aliked-n16 or aliked-n16rot" in text


def test_a_reader_that_has_enough_ends_the_command_without_words(tmp_path: Path) -> None:
    for index in range(30):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((64, 64), 7, np.uint8))
    pictures = sorted(map(str, tmp_path.glob("*.png")))
    process = subprocess.Popen(
        [sys.executable, "-m", "gcnv2_ros.cli.main", "extract", *pictures, "--model", "orb"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(timeout=300) == 1


def test_convert_weights_makes_a_file_that_loads(tmp_path: Path) -> None:
    import torch

    torch.save({"state_dict": create_network("gcnv2_tiny").state_dict()}, tmp_path / "old.pt")
    target = tmp_path / "new.safetensors"
    assert main(["convert-weights", str(tmp_path / "old.pt"), str(target)]) == 0
    assert load_weights(target, model="gcnv2_tiny").metadata.model == "gcnv2_tiny"


def test_the_shipped_calibration_is_not_overwritten_unasked(capsys: pytest.CaptureFixture) -> None:
    path = Path(load_weights("default", model="gcnv2_tiny").path).with_suffix(".int8.json")
    before = path.read_bytes()
    assert main(["quantize", "gcnv2_tiny", "room:frames=2"]) == 1
    assert f"have their calibration, {path}; choose precision int8" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_comparison_on_nothing_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert main(["benchmark-features", "orb"]) == 1
    assert "give --pictures, --oxford or --sequence" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--pairs", "--roll-pairs", "--tilt-pairs", "--budgets"])
def test_a_comparison_on_no_pairs_is_refused(option: str, picture: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["benchmark-features", "orb", "--pictures", str(picture.parent), option, "0"]) == 1
    assert capsys.readouterr().err == f"gcnv2 benchmark-features: {option} must be 1 or more, got 0\n"


# What would be done first is refused too, and would be named if it came first.
MEASUREMENTS = {
    "evaluate": ["evaluate", "orb", "--sequence", "nowhere"],
    "benchmark-features": ["benchmark-features", "orb", "--sequence", "nowhere"],
    "bench": ["bench", "--images", "nowhere"],
    "demo": ["demo", "--sequence", "nowhere"],
}


@pytest.mark.parametrize("command", MEASUREMENTS)
@pytest.mark.parametrize("below", ["", "/folder/out"])
def test_results_that_could_not_be_written_are_refused_before_anything_is_measured(
    command: str, below: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    if command == "demo":
        pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    (tmp_path / "file").write_text("kept")
    out = f"{tmp_path}/file{below}"
    assert main([*MEASUREMENTS[command], "--out", out]) == 1
    assert capsys.readouterr().err == (
        f"gcnv2 {command}: {out} is to be a folder, and {tmp_path}/file is none; remove it or name another folder\n"
    )
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tmp_path.chmod(0o500)
    assert main([*MEASUREMENTS["evaluate"], "--out", str(tmp_path / "out")]) == 1
    assert f"there is no permission to write to {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["matplotlib", "evo"])
@pytest.mark.parametrize("command", ["evaluate", "benchmark-features", "bench"])
def test_a_library_that_is_needed_in_the_end_is_missed_at_once(
    command: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setitem(sys.modules, library, None)
    assert main([*MEASUREMENTS[command], "--out", str(tmp_path / "out")]) == 1
    needed = library == "matplotlib" or command == "evaluate"
    assert (f"needs the Python library {library!r}; install it with: " in capsys.readouterr().err) == needed
    assert list(tmp_path.iterdir()) == []
    if (command, library) == ("evaluate", "evo"):
        assert main([*MEASUREMENTS[command], "--no-odometry"]) == 1
        assert "there is no sequence nowhere" in capsys.readouterr().err


def test_options_of_a_sequence_are_taken_wherever_it_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 64), 40 * index, np.uint8))
    assert main(["to-bag", f"{tmp_path}@rate=2", str(tmp_path / "out.mcap")]) == 0
    assert main(["to-bag", f"{tmp_path}@speed=2", str(tmp_path / "other.mcap")]) == 1
    assert "speed" in capsys.readouterr().err


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in a process of its own: Fast DDS reads its configuration once a process, for all that follows."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FASTDDS_", "FASTRTPS_"))}
    return subprocess.run(
        [sys.executable, "-m", "gcnv2_ros.cli.main", "demo", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_demo_plays_to_the_real_node_and_leaves_a_page(tmp_path: Path) -> None:
    room = "room:width=160,height=120,frames=24,rate=10"
    out = tmp_path / "page"
    options = ["--model", "orb", "--input-size", "160x120", "--max-keypoints", "200", "--threads", "1"]
    result = run_demo("--sequence", room, "--out", str(out), *options)
    assert result.returncode == 0, result.stderr
    match = re.search(r"(\d+) of 24 frames came back as features", result.stdout)
    assert match is not None
    assert int(match[1]) >= 12
    page = (out / "index.html").read_text()
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert len(pictures) >= 4
    for name in pictures:
        assert cv2.imread(str(out / name)) is not None
    assert "within 3 px of it" in page


COMMANDS = {
    "to-bag": ["to-bag", "BAG", "OUT.mcap"],
    "replay": ["replay", "BAG", "OUT.mcap", "--model", "orb"],
    "colmap": ["colmap", "BAG", "OUT", "--frontend", "orb"],
    "view": ["view", "BAG", "--out", "OUT.rrd", "--model", "orb"],
    "vocab train": ["vocab", "train", "BAG", "--out", "OUT.txt", "--model", "orb"],
    "vocab query": ["vocab", "query", "default", "IMAGE", "BAG", "--model", "orb"],
    "quantize": ["quantize", "gcnv2_tiny", "BAG", "--out", "OUT.int8.json"],
    "bench": ["bench", "--images", "BAG", "--rounds", "1", "--weights", "none.safetensors"],
    "benchmark-features": ["benchmark-features", "orb", "--sequence", "BAG"],
}
NEEDED = {"colmap": "pycolmap", "view": "rerun"}


@pytest.fixture(scope="module")
def incomplete_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of which one has no depth image."""
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from gcnv2_ros.sequences import open_sequence
    from gcnv2_ros.sequences.bag_writer import new_bag, write_bag

    folder = tmp_path_factory.mktemp("incomplete")
    write_bag(open_sequence("room:frames=3,width=64,height=48"), folder / "whole.mcap")
    with new_bag(folder / "drive.mcap") as output:
        whole = open_sequence(folder / "whole.mcap").bag  # type: ignore[attr-defined]
        depths = 0
        for connection, recorded, data in whole.raw_messages():
            depths += connection.topic == "/depth"
            if connection.topic != "/depth" or depths != 2:
                output.copy(connection, recorded, data, whole.typestore)
    return folder / "drive.mcap"


LEFT_OUT = "drive: 1 of 3 images of /image have no message of /depth within 0.02 s and are left out"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_which_frames_of_a_bag_are_left_out(
    command: str, incomplete_bag: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip(NEEDED.get(command, "rosbags"))
    placed = {"BAG": str(incomplete_bag), "IMAGE": str(picture)}
    main([placed.get(part, part.replace("OUT", str(tmp_path / "out"))) for part in COMMANDS[command]])
    assert capsys.readouterr().err.splitlines().count(LEFT_OUT) == 1


def test_the_demo_says_which_frames_of_a_bag_are_left_out(incomplete_bag: Path, tmp_path: Path) -> None:
    result = run_demo("--sequence", str(incomplete_bag), "--out", str(tmp_path), "--weights", "none.pt")
    assert result.stderr.splitlines().count(LEFT_OUT) == 1


def test_the_demo_says_why_the_node_did_not_start(tmp_path: Path) -> None:
    arguments = ["--sequence", "room:width=96,height=64,frames=2", "--out", str(tmp_path), "--weights", "none.pt"]
    result = run_demo(*arguments)
    assert result.returncode == 1
    assert "the node ended with exit code 1" in result.stderr
    assert "none.pt" in result.stderr
