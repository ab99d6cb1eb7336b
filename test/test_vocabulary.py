# SPDX-License-Identifier: Apache-2.0
"""Vocabularies: training against brute force, look-up against a plain loop, and what their scores say of images."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gcnv2_ros import hamming
from gcnv2_ros.cli.main import main
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.sequences import TumSequence
from gcnv2_ros.vocabulary import (
    Scoring,
    Vocabulary,
    VocabularyError,
    Weighting,
    bag_of_words,
    l1_score,
    l1_scores,
    load_vocabulary,
    save_vocabulary,
    train_vocabulary,
)
from gcnv2_ros.vocabulary.train import k_majority

CLIP = Path(__file__).resolve().parents[2] / "shared" / "data" / "tum_fr1_rpy_clip"

# Few values: many equal descriptors and equal distances.
descriptor_sets = npst.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.just(32)), elements=st.sampled_from([0, 1, 3, 7, 255]), fill=st.nothing()
) | st.builds(
    lambda seed, count: np.random.default_rng(seed).choice(np.array([0, 1, 3, 255], np.uint8), (count, 4)).repeat(8, 1),
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
)


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.unpackbits(a ^ b).sum())


def noisy(descriptors: np.ndarray, generator: np.random.Generator, share: float = 0.05) -> np.ndarray:
    return descriptors ^ np.packbits(generator.random((len(descriptors), 256)) < share, axis=1)


def some_images(seed: int = 0, images: int = 12, features: int = 60) -> list[np.ndarray]:
    """Images that see different parts of one set of points."""
    generator = np.random.default_rng(seed)
    points = generator.integers(0, 256, (300, 32), dtype=np.uint8)
    return [noisy(points[generator.integers(20 * i, 20 * i + 80, features)], generator) for i in range(images)]


def look_up_in_a_loop(vocabulary: Vocabulary, descriptor: np.ndarray, levels_up: int) -> tuple[int, int]:
    node, level, passed = 0, 0, 0
    while True:
        children = [child for child, above in enumerate(vocabulary.parent) if above == node]
        if not children:
            return vocabulary.node_of_word.tolist().index(node), passed
        node = min(children, key=lambda child: apart(vocabulary.descriptors[child], descriptor))
        level += 1
        if level <= vocabulary.depth - levels_up:
            passed = node


@settings(max_examples=40)
@given(descriptor_sets, st.integers(2, 5), st.integers(0, 1000))
def test_clusters_are_nearest_and_centres_the_majority(descriptors: np.ndarray, count: int, seed: int) -> None:
    centres, label = k_majority(descriptors, count, np.random.default_rng(seed))
    assert 1 <= len(centres) <= count
    for descriptor, chosen in zip(descriptors, label):
        assert chosen == min(range(len(centres)), key=lambda k: apart(centres[k], descriptor))
    for k, centre in enumerate(centres):
        bits = np.unpackbits(descriptors[label == k], axis=1).sum(axis=0)
        assert (label == k).any()
        np.testing.assert_array_equal(np.unpackbits(centre), 2 * bits >= (label == k).sum())


def test_a_cluster_that_runs_empty_is_left_out() -> None:
    descriptors = np.zeros((7, 32), np.uint8)
    descriptors[:, 0] = [206, 241, 207, 243, 132, 121, 81]
    centres, label = k_majority(descriptors, 3, np.random.default_rng(0))
    assert len(centres) == 2
    assert set(label.tolist()) == {0, 1}


@pytest.mark.parametrize("seed", range(6))
def test_the_best_of_some_clusterings_is_the_best_of_all_partitions(seed: int) -> None:
    generator = np.random.default_rng(seed)
    descriptors = generator.integers(0, 256, (7, 32), dtype=np.uint8)

    def cost(labels: np.ndarray) -> int:
        total = 0
        for k in set(labels.tolist()):
            ones = np.unpackbits(descriptors[labels == k], axis=1).sum(axis=0, dtype=int)
            total += int(np.minimum(ones, (labels == k).sum() - ones).sum())
        return total

    best = min(cost(np.array((0, *labels))) for labels in itertools.product((0, 1), repeat=6))
    found = [cost(k_majority(descriptors, 2, np.random.default_rng(start))[1]) for start in range(60)]
    assert min(found) == best


def test_planted_clusters_are_found() -> None:
    generator = np.random.default_rng(3)
    planted = generator.integers(0, 256, (8, 32), dtype=np.uint8)
    truth = generator.integers(0, 8, 20_000)
    # Several clusters may be seeded in one, so that the outcome depends on the seeds; the best of a few has them all.
    best = 0
    for seed in range(8):
        centres, _ = k_majority(noisy(planted[truth], generator), 8, np.random.default_rng(seed))
        best = max(best, sum(any((centre == one).all() for centre in centres) for one in planted))
    assert best == 8


def test_counting_bits_needs_no_new_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.random.default_rng(0).integers(0, 2**63, (5, 3, 4), dtype=np.uint64) * np.uint64(2)
    expected = [[[int(word).bit_count() for word in row] for row in block] for block in words.tolist()]
    assert hamming.count_bits(words).tolist() == expected
    monkeypatch.setattr(hamming, "_bitwise_count", None)
    assert hamming.count_bits(words).tolist() == expected


@settings(max_examples=25)
@given(st.lists(descriptor_sets, min_size=2, max_size=4), st.integers(2, 4), st.integers(1, 6), st.integers(0, 5))
def test_look_up_is_that_of_a_plain_loop(images: list[np.ndarray], branching: int, depth: int, levels_up: int) -> None:
    vocabulary = train_vocabulary(images, branching=branching, depth=depth)
    asked = np.concatenate([images[0], np.random.default_rng(0).integers(0, 256, (5, 32), dtype=np.uint8)])[:20]
    words, nodes = vocabulary.look_up(asked, levels_up=levels_up)
    expected = [look_up_in_a_loop(vocabulary, descriptor, levels_up) for descriptor in asked]
    assert list(zip(words.tolist(), nodes.tolist())) == expected


def test_many_descriptors_are_looked_up_as_few_are() -> None:
    vocabulary = train_vocabulary(some_images(), branching=5, depth=3)
    descriptors = np.random.default_rng(1).integers(0, 256, (9000, 32), dtype=np.uint8)
    words, nodes = vocabulary.look_up(descriptors, levels_up=1)
    for position in (0, 4095, 4096, 8191, 8192, 8999):
        word, node = vocabulary.look_up(descriptors[position : position + 1], levels_up=1)
        assert (words[position], nodes[position]) == (word[0], node[0])
    assert [len(array) for array in vocabulary.look_up(descriptors[:0])] == [0, 0]


@pytest.mark.parametrize(("branching", "depth"), [(10, 2), (3, 5), (2, 8)])
def test_training_orders_nodes_and_weighs_words(branching: int, depth: int) -> None:
    images = some_images()
    # One point far from all others: without care it would be a word high up in a deep tree.
    images.append(np.repeat(255 - images[0][:1], 3, axis=0))
    images.append(np.zeros((0, 32), np.uint8))
    vocabulary = train_vocabulary(images, branching=branching, depth=depth, seed=5)
    assert len(vocabulary) > branching

    order = []

    def visit(node: int) -> None:
        children = np.flatnonzero(vocabulary.parent == node).tolist()
        order.extend(children)
        for child in children:
            visit(child)

    visit(0)
    assert order == list(range(1, len(vocabulary.parent)))

    seen = [set(vocabulary.look_up(descriptors)[0].tolist()) for descriptors in images]
    for word, node in enumerate(vocabulary.node_of_word):
        images_with = sum(word in words for words in seen)
        assert images_with > 0
        assert vocabulary.weights[node] == pytest.approx(np.log(len(images) / images_with), rel=1e-6)
    inner = vocabulary.word_of_node < 0
    assert not vocabulary.weights[inner].any()

    for node in vocabulary.node_of_word:
        level, above = 0, int(node)
        while above > 0:
            level, above = level + 1, int(vocabulary.parent[above])
        assert max(depth - 4, 1) <= level <= depth


def test_no_word_lies_so_high_that_trackers_find_no_node_above_it() -> None:
    first, second = np.random.default_rng(0).integers(0, 256, (2, 1, 32), dtype=np.uint8)
    vocabulary = train_vocabulary([first.repeat(3, axis=0), second], branching=4, depth=10)
    assert len(vocabulary) == 2
    assert len(vocabulary.parent) == 1 + 2 * 6
    words, nodes = vocabulary.look_up(np.concatenate([first, second]))
    assert vocabulary.node_of_word[words].tolist() == nodes.tolist()
    assert (vocabulary.descriptors[nodes] == np.concatenate([first, second])).all()


def test_the_seed_decides_the_vocabulary() -> None:
    images = some_images()
    first, same, other = (train_vocabulary(images, branching=4, depth=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.descriptors, same.descriptors)
    assert first.descriptors.shape != other.descriptors.shape or (first.descriptors != other.descriptors).any()


def test_what_cannot_be_trained_on_gives_a_sentence() -> None:
    images = some_images(images=2)
    for arguments, sentence in (
        ({"branching": 1}, "branching factor must be from 2 to 20, got 1"),
        ({"branching": 21}, "got 21"),
        ({"depth": 0}, "depth must be from 1 to 10, got 0"),
        ({"depth": 11}, "got 11"),
    ):
        with pytest.raises(VocabularyError, match=sentence):
            train_vocabulary(images, **arguments)
    with pytest.raises(VocabularyError, match="at least two images with descriptors, got 1 of 2"):
        train_vocabulary([images[0], images[0][:0]])
    with pytest.raises(VocabularyError, match=r"uint8 \(N, 32\), got float32 \(60, 32\)"):
        train_vocabulary([images[0], images[1].astype(np.float32)])
    vocabulary = train_vocabulary(images, branching=4, depth=2)
    with pytest.raises(VocabularyError, match="levels_up must not be negative"):
        vocabulary.look_up(images[0], levels_up=-1)
    with pytest.raises(VocabularyError, match=r"got uint8 \(60, 16\)"):
        vocabulary.look_up(images[0][:, :16])


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(Weighting))
def test_scores_are_those_of_the_definition(seed: int, weighting: Weighting) -> None:
    trained = train_vocabulary(some_images(), branching=5, depth=2)
    vocabulary = Vocabulary(5, 2, trained.parent, trained.descriptors, trained.weights, weighting=weighting)
    images = some_images(seed, images=4)
    bags = [bag_of_words(vocabulary, descriptors) for descriptors in images]
    dense = np.zeros((len(images), len(vocabulary)))
    for row, descriptors in zip(dense, images):
        for word in vocabulary.look_up(descriptors)[0]:
            weight = vocabulary.weights[vocabulary.node_of_word[word]]
            row[word] = weight if weighting in (Weighting.IDF, Weighting.BINARY) else row[word] + weight
        row /= row.sum()
    for i, j in itertools.product(range(len(images)), repeat=2):
        expected = 1 - np.abs(dense[i] - dense[j]).sum() / 2
        assert l1_score(bags[i], bags[j]) == pytest.approx(expected, abs=1e-6)
        assert l1_score(bags[i], bags[j]) == pytest.approx(l1_score(bags[j], bags[i]), abs=1e-12)
    assert l1_score(bags[0], bags[0]) == pytest.approx(1, abs=1e-12)


def test_an_image_without_known_words_scores_nothing() -> None:
    vocabulary = train_vocabulary(some_images(), branching=5, depth=2)
    empty = bag_of_words(vocabulary, np.zeros((0, 32), np.uint8))
    bag = bag_of_words(vocabulary, some_images()[0])
    assert (len(empty), empty.direct_index) == (0, {})
    assert l1_scores(bag, [empty, bag]).tolist() == pytest.approx([0, 1])
    assert l1_scores(empty, [empty, bag]).tolist() == [0, 0]
    assert l1_scores(bag, []).shape == (0,)


def test_words_in_every_image_are_left_out() -> None:
    images = some_images()
    common = np.full((1, 32), 85, np.uint8)
    vocabulary = train_vocabulary([np.concatenate([one, common]) for one in images], branching=10, depth=3)
    word = vocabulary.look_up(common)[0][0]
    assert vocabulary.weights[vocabulary.node_of_word[word]] == 0
    bag = bag_of_words(vocabulary, np.concatenate([common, images[0], common]), levels_up=1)
    assert word not in bag.words
    filed = np.concatenate(list(bag.direct_index.values()))
    assert 0 not in filed
    assert 61 not in filed


def test_the_direct_index_files_descriptors_under_their_nodes() -> None:
    images = some_images()
    vocabulary = train_vocabulary(images, branching=3, depth=6)
    bag = bag_of_words(vocabulary, images[3])
    _, nodes = vocabulary.look_up(images[3], levels_up=4)
    filed = {position: node for node, positions in bag.direct_index.items() for position in positions.tolist()}
    assert filed == dict(enumerate(nodes.tolist()))
    for node, positions in bag.direct_index.items():
        assert positions.tolist() == sorted(positions.tolist())
        assert vocabulary.parent[vocabulary.parent[node]] == 0


def test_a_vocabulary_for_other_scores_is_refused() -> None:
    trained = train_vocabulary(some_images(), branching=5, depth=2)
    other = Vocabulary(5, 2, trained.parent, trained.descriptors, trained.weights, Scoring.CHI_SQUARE)
    with pytest.raises(VocabularyError, match="CHI_SQUARE"):
        bag_of_words(other, some_images()[0])


@pytest.mark.skipif(not CLIP.is_dir(), reason=f"{CLIP} is not here")
def test_an_image_looks_most_like_itself_and_its_neighbours(tmp_path: Path) -> None:
    sequence = TumSequence(CLIP)
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=500)) as extractor:
        frames = [sequence[index] for index in range(0, len(sequence), 3)]
        described = [extractor.extract(frame.gray).descriptors for frame in frames]
    save_vocabulary(train_vocabulary(described[::5], branching=10, depth=4), tmp_path / "small.bin")
    vocabulary = load_vocabulary(tmp_path / "small.bin")
    bags = [bag_of_words(vocabulary, descriptors) for descriptors in described]
    scores = np.array([l1_scores(bag, bags) for bag in bags])
    assert (scores.argmax(axis=1) == np.arange(len(bags))).all()

    rotation = np.array([frame.pose[:3, :3] for frame in frames])
    cosine = (np.einsum("aij,bij->ab", rotation, rotation) - 1) / 2
    turned = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    np.fill_diagonal(scores, 0)
    # The camera swings to and fro: the most similar other frame may be of another time, but not of another view.
    assert turned[np.arange(len(bags)), scores.argmax(axis=1)].max() < 12
    for position in range(1, len(bags) - 1):
        neighbours = scores[position, [position - 1, position + 1]].mean()
        assert neighbours > 2 * scores[position, turned[position] > 25].mean()


@pytest.mark.skipif(not CLIP.is_dir(), reason=f"{CLIP} is not here")
def test_the_command_trains_converts_and_queries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, binary = tmp_path / "words.txt", tmp_path / "words.bin"
    orb = ["--model", "orb", "--max-keypoints", "200"]
    assert main(["vocab", "train", str(CLIP), "--every", "15", "--depth", "3", "--out", str(text), *orb]) == 0
    assert main(["vocab", "convert", str(text), str(binary)]) == 0
    np.testing.assert_array_equal(load_vocabulary(binary).descriptors, load_vocabulary(text).descriptors)
    capsys.readouterr()
    picture = sorted((CLIP / "rgb").iterdir())[45]
    assert main(["vocab", "query", str(binary), str(picture), str(CLIP), "--every", "15", "--top", "3", *orb]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0] == "frame 45: 1.0000"


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocab", "convert", str(tmp_path / "missing.txt"), str(tmp_path / "out.bin")]) == 1
    assert "cannot read the vocabulary" in capsys.readouterr().err
    assert main(["vocab", "train", "room", "--out", str(tmp_path / "words.yml")]) == 1
    assert "ends in .txt" in capsys.readouterr().err
    arguments = ["vocab", "train", "room", "--every", "0", "--model", "orb", "--out", str(tmp_path / "words.txt")]
    assert main(arguments) == 1
    assert "--every must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--branching", "1"], "the branching factor must be from 2 to 20, got 1"),
        (["--depth", "11"], "the depth must be from 1 to 10, got 11"),
        (["--input-size", "320x240,640"], "a size is written as WIDTHxHEIGHT"),
        (["--out", "{folder}/words.txt/words.txt"], "cannot write the vocabulary"),
        (["--out", "{folder}/folder.txt"], "is a folder"),
        (["{folder}"], "corpus.json does not name the packages"),
    ],
)
def test_training_says_what_is_wrong_before_the_first_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    (tmp_path / "words.txt").write_text("a file")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "corpus.json").write_text("{}")
    # The source is missing too: that is what would be told if the work had begun.
    arguments = ["vocab", "train", "--model", "orb", "--out", str(tmp_path / "new.txt"), str(tmp_path / "missing")]
    assert main([*arguments, *(option.format(folder=tmp_path) for option in options)]) == 1
    assert sentence in capsys.readouterr().err
