# SPDX-License-Identifier: Apache-2.0
"""Vocabularies and the weights that they belong to: the shipped one, and those that the command trains."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import gcnv2_ros.vocabulary
import gcnv2_ros.weights
from gcnv2_ros.cli.main import main
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.files import sha256_of
from gcnv2_ros.sequences import RoomOptions, SyntheticRoom, TumSequence, open_sequence
from gcnv2_ros.sequences.bag_writer import write_bag
from gcnv2_ros.vocabulary import (
    VocabularyError,
    bag_of_words,
    l1_scores,
    load_description,
    load_vocabulary,
    save_description,
)
from gcnv2_ros.vocabulary.description import description_path

CLIP = Path(os.environ.get("GCNV2_ROS_DATA", "data")) / "tum_fr1_rpy_clip"
DATA = Path(gcnv2_ros.vocabulary.__file__).parent / "data"
SHIPPED = tuple(sorted(file.name.removesuffix(".bin.xz") for file in DATA.glob("*.bin.xz")))
WEIGHTS = json.loads((Path(gcnv2_ros.weights.__file__).parent / "data" / "manifest.json").read_text())["weights"]
MEGABYTES = 5.0


def pictures(folder: Path, count: int) -> Path:
    """Make a folder of pictures of the synthetic room."""
    folder.mkdir()
    for frame in SyntheticRoom(RoomOptions(frames=count, width=160, height=128, texel=0.02)):
        cv2.imwrite(str(folder / f"{frame.index}.png"), frame.gray)
    return folder


def test_there_is_a_vocabulary_for_the_default_weights() -> None:
    assert "gcnv2_tiny" in SHIPPED
    assert load_vocabulary("default").branching == 10


@pytest.mark.parametrize("model", SHIPPED)
def test_a_shipped_vocabulary_belongs_to_the_shipped_weights_and_says_how_it_was_made(model: str) -> None:
    path = DATA / f"{model}.bin.xz"
    description = load_description(path)
    assert description is not None
    assert description.weights_sha256 == WEIGHTS[model]["sha256"], (
        f"the vocabulary of {model} is of other weights than those that are shipped: "
        "train it anew with the command in docs/vocabulary.md"
    )
    vocabulary = load_vocabulary("default", model=model, weights_sha256=WEIGHTS[model]["sha256"])
    assert (len(vocabulary), vocabulary.branching, vocabulary.depth) == (
        description.words,
        description.branching,
        description.depth,
    )
    assert len(vocabulary) > 5000
    assert path.stat().st_size < MEGABYTES * 1e6
    assert set(description.input_sizes) == {"640x480", "320x240"}
    assert description.images >= 500
    assert description.descriptors >= 20 * description.images
    for source in description.sources:
        assert source["terms"]
        assert all(package["licences"] for package in source["terms"].values())


def test_a_vocabulary_for_other_weights_or_networks_is_refused() -> None:
    with pytest.raises(VocabularyError, match=f"belongs to the weights .* not to {'0' * 64}.*gcnv2 vocab train"):
        load_vocabulary("default", weights_sha256="0" * 64)
    with pytest.raises(VocabularyError, match=r"ships no vocabulary for orb \(shipped: .*gcnv2_tiny"):
        load_vocabulary("default", model="orb")


def test_the_default_becomes_a_file_for_other_programs(tmp_path: Path) -> None:
    assert main(["vocab", "convert", "default", str(tmp_path / "words.bin")]) == 0
    mine = WEIGHTS["gcnv2_tiny"]["sha256"]
    written, shipped = load_vocabulary(tmp_path / "words.bin", weights_sha256=mine), load_vocabulary("default")
    np.testing.assert_array_equal(written.descriptors, shipped.descriptors)
    np.testing.assert_array_equal(written.weights, shipped.weights)


def test_a_converted_vocabulary_has_the_description_of_its_source_and_no_other(tmp_path: Path) -> None:
    first, second, bare = tmp_path / "first.bin", tmp_path / "second.txt.xz", tmp_path / "bare.txt"
    assert main(["vocab", "convert", "default", str(first), "--model", "gcnv2"]) == 0
    assert main(["vocab", "convert", str(first), str(second)]) == 0
    shipped = load_description(DATA / "gcnv2.bin.xz")
    assert shipped is not None
    assert load_description(second) == replace(shipped, sha256=sha256_of(second))
    with pytest.raises(VocabularyError, match="belongs to the weights"):
        load_vocabulary(second, weights_sha256=WEIGHTS["gcnv2_tiny"]["sha256"])

    assert main(["vocab", "convert", "default", str(first)]) == 0
    load_vocabulary(first, weights_sha256=WEIGHTS["gcnv2_tiny"]["sha256"])

    assert main(["vocab", "convert", str(first), str(bare)]) == 0
    load_vocabulary(bare, weights_sha256=WEIGHTS["gcnv2_tiny"]["sha256"])
    description_path(bare).unlink()
    assert main(["vocab", "convert", str(bare), str(second)]) == 0
    assert load_description(second) is None
    load_vocabulary(second, weights_sha256=WEIGHTS["gcnv2"]["sha256"])


def test_a_query_with_a_model_that_has_no_weights_compares_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = pictures(tmp_path / "pictures", 2)
    query, orb = [str(corpus / "0.png"), str(corpus)], ["--model", "orb", "--max-keypoints", "50"]
    words, of_orb = tmp_path / "words.bin", tmp_path / "orb.bin"
    assert main(["vocab", "convert", "default", str(words)]) == 0
    assert main(["vocab", "query", str(words), *query, *orb]) == 1
    assert "belongs to descriptors of gcnv2_tiny, not to those of orb" in capsys.readouterr().err

    assert main(["vocab", "train", str(corpus), "--depth", "2", "--out", str(of_orb), *orb]) == 0
    assert main(["vocab", "query", str(of_orb), *query, *orb]) == 0
    assert main(["vocab", "query", str(of_orb), *query]) == 1
    assert "belongs to orb, not to" in capsys.readouterr().err
    description_path(words).unlink()
    assert main(["vocab", "query", str(words), *query, *orb]) == 0


def test_the_options_of_a_source_leave_its_name_and_terms_as_they_are(tmp_path: Path) -> None:
    corpus = pictures(tmp_path / "pictures", 2)
    terms = {"some-package": {"version": "1.0", "pictures": 2, "licences": {"CC0-1.0": 2}}}
    (corpus / "corpus.json").write_text(json.dumps({"packages": terms}))
    bag = tmp_path / "clip.mcap"
    write_bag(open_sequence(corpus), bag)
    sources = [f"{corpus}@rate=5", f"{bag}@image=/image,depth="]
    out = tmp_path / "words.bin"
    orb = ["--model", "orb", "--max-keypoints", "50"]
    assert main(["vocab", "train", *sources, "--depth", "2", "--out", str(out), *orb]) == 0
    description = load_description(out)
    assert description is not None
    assert description.sources == (
        {"source": "pictures", "images": 2, "terms": terms},
        {"source": "clip.mcap", "images": 2, "terms": {}},
    )


def test_the_command_trains_at_several_sizes_and_describes_what_it_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = pictures(tmp_path / "pictures", 3)
    terms = {"some-package": {"version": "1.0", "pictures": 3, "licences": {"CC0-1.0": 3}}}
    (corpus / "corpus.json").write_text(json.dumps({"packages": terms}))
    out = tmp_path / "words.bin.xz"
    sizes = ["--input-size", "160x128,128x96", "--score-threshold", "0.0"]
    command = ["vocab", "train", str(corpus), "--depth", "2", "--max-keypoints", "50", *sizes, "--out"]
    assert main([*command, str(out)]) == 0, capsys.readouterr().err
    description = load_description(out)
    assert description is not None
    assert description.sha256 == sha256_of(out)
    assert (description.model, description.weights_sha256) == ("gcnv2_tiny", WEIGHTS["gcnv2_tiny"]["sha256"])
    assert (description.input_sizes, description.images) == (("160x128", "128x96"), 6)
    assert description.descriptors <= 300
    assert description.sources == ({"source": "pictures", "images": 3, "terms": terms},)
    vocabulary = load_vocabulary(out, weights_sha256=WEIGHTS["gcnv2_tiny"]["sha256"])
    assert len(vocabulary) == description.words

    again = tmp_path / "again.bin.xz"
    assert main([*command, str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()

    with pytest.raises(VocabularyError, match="belongs to the weights"):
        load_vocabulary(out, weights_sha256="f" * 64)
    save_description(replace(description, weights_sha256="f" * 64), out)
    picture = str(corpus / "0.png")
    assert main(["vocab", "query", str(out), picture, str(corpus), "--input-size", "160x128"]) == 1
    assert "belongs to the weights ffff" in capsys.readouterr().err
    save_description(replace(description, sha256="0" * 64), out)
    with pytest.raises(
        VocabularyError, match=r"words\.bin\.xz\.json describes another file .* or delete the description"
    ):
        load_description(out)
    Path(f"{out}.json").write_text("[]")
    with pytest.raises(VocabularyError, match="is no description of a vocabulary"):
        load_description(out)
    Path(f"{out}.json").unlink()
    assert load_description(out) is None
    assert len(load_vocabulary(out, weights_sha256="f" * 64)) == len(vocabulary)


@pytest.mark.skipif(not CLIP.is_dir(), reason="no tum_fr1_rpy_clip in the folder that GCNV2_ROS_DATA names")
def test_an_image_scores_highest_against_itself_and_then_its_neighbours() -> None:
    sequence = TumSequence(CLIP)
    vocabulary = load_vocabulary("default")
    frames = [sequence[index] for index in range(0, len(sequence), 3)]
    options = ExtractorOptions(input_width=320, input_height=240, threads=1)
    with create_extractor(options, DecodeOptions(max_keypoints=500)) as extractor:
        bags = [bag_of_words(vocabulary, extractor.extract(frame.gray).descriptors) for frame in frames]
    scores = np.array([l1_scores(bag, bags) for bag in bags])
    assert (scores.argmax(axis=1) == np.arange(len(bags))).all()
    np.testing.assert_allclose(np.diag(scores), 1.0)

    rotation = np.array([frame.pose[:3, :3] for frame in frames if frame.pose is not None])
    cosine = (np.einsum("aij,bij->ab", rotation, rotation) - 1) / 2
    turned = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    np.fill_diagonal(scores, 0)
    # The camera swings to and fro: the most similar other frame may be of another time, but not of another view;
    # a view is 63 degrees wide.
    assert turned[np.arange(len(bags)), scores.argmax(axis=1)].max() < 15
    for position in range(1, len(bags) - 1):
        neighbours = scores[position, [position - 1, position + 1]].mean()
        assert neighbours > 1.5 * scores[position, turned[position] > 25].mean()
