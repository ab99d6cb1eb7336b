# SPDX-License-Identifier: Apache-2.0
"""Vocabulary files: what is written comes back, as other loaders see it too, and broken files are named."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.vocabulary import (
    Scoring,
    Vocabulary,
    VocabularyError,
    Weighting,
    load_vocabulary,
    save_vocabulary,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ORB_VOCABULARY = DATA / "orb_vocabulary" / "orb_vocabulary_k10_L6.txt.xz"

DESCRIPTOR = " ".join(["7"] * 32)
GOOD = ["2 2 0 0", f"0 0 {DESCRIPTOR} 0", f"0 1 {DESCRIPTOR} 0.5", f"1 1 {DESCRIPTOR} 1.25", f"1 1 {DESCRIPTOR} 3"]


@st.composite
def vocabularies(draw: st.DrawFn) -> Vocabulary:
    """Trees of any shape, parents first but in any order otherwise."""
    branching, depth = draw(st.integers(2, 4)), draw(st.integers(1, 5))
    parent, level, children = [-1], [0], [0]
    for _ in range(draw(st.integers(1, 40))):
        free = [node for node in range(len(parent)) if level[node] < depth and children[node] < branching]
        if not free:
            break
        above = draw(st.sampled_from(free))
        children[above] += 1
        parent.append(above)
        level.append(level[above] + 1)
        children.append(0)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = st.floats(0, 1e9, width=32)
    return Vocabulary(
        branching,
        depth,
        np.array(parent, np.int32),
        np.concatenate([np.zeros((1, 32)), generator.integers(0, 256, (len(parent) - 1, 32))]).astype(np.uint8),
        np.array([0 if count else draw(weight) for count in children], np.float32),
        draw(st.sampled_from(Scoring)),
        draw(st.sampled_from(Weighting)),
    )


def assert_same(a: Vocabulary, b: Vocabulary) -> None:
    assert (a.branching, a.depth, a.scoring, a.weighting) == (b.branching, b.depth, b.scoring, b.weighting)
    for name in ("parent", "descriptors", "weights", "node_of_word", "word_of_node"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@settings(max_examples=40, deadline=None)
@given(vocabularies(), st.sampled_from([".txt", ".txt.xz", ".bin"]))
def test_a_vocabulary_comes_back_from_each_form(
    tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("forms") / f"vocabulary{suffix}"
    save_vocabulary(vocabulary, path)
    assert_same(load_vocabulary(path), vocabulary)


@settings(max_examples=25, deadline=None)
@given(vocabularies())
def test_the_text_is_what_loaders_parse(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> None:
    path = tmp_path_factory.mktemp("text") / "vocabulary.txt"
    save_vocabulary(vocabulary, path)
    text = path.read_text(encoding="ascii")
    assert not text.endswith("\n")
    first, *lines = text.split("\n")
    assert [int(value) for value in first.split()] == [
        vocabulary.branching,
        vocabulary.depth,
        vocabulary.scoring,
        vocabulary.weighting,
    ]
    assert len(lines) == len(vocabulary.parent) - 1
    with_children = set()
    flagged = []
    for node, line in enumerate(lines, start=1):
        above, leaf, *values = line.split(" ")
        assert 0 <= int(above) < node
        with_children.add(int(above))
        if leaf == "1":
            flagged.append(node)
        assert [int(value) for value in values[:-1]] == vocabulary.descriptors[node].tolist()
        assert np.float32(float(values[-1])) == vocabulary.weights[node]
    assert flagged == [node for node in range(1, len(lines) + 1) if node not in with_children]
    assert flagged == vocabulary.node_of_word.tolist()


@settings(max_examples=25, deadline=None)
@given(vocabularies())
def test_the_binary_form_has_41_bytes_a_node(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> None:
    path = tmp_path_factory.mktemp("binary") / "vocabulary.bin"
    save_vocabulary(vocabulary, path)
    content = path.read_bytes()
    count = len(vocabulary.parent)
    assert struct.unpack_from("<IIiiii", content) == (
        count,
        41,
        vocabulary.branching,
        vocabulary.depth,
        int(vocabulary.scoring),
        int(vocabulary.weighting),
    )
    assert len(content) == 24 + 41 * (count - 1)
    for node in range(1, count):
        above, descriptor, weight, leaf = struct.unpack_from("<I32sfB", content, 24 + 41 * (node - 1))
        assert above == vocabulary.parent[node]
        assert descriptor == vocabulary.descriptors[node].tobytes()
        assert weight == vocabulary.weights[node]
        assert leaf == (node in vocabulary.node_of_word)


def test_blank_lines_spaces_and_line_breaks_of_other_systems_are_read(tmp_path: Path) -> None:
    plain, loose = tmp_path / "plain.txt", tmp_path / "loose.txt"
    plain.write_text("\n".join(GOOD))
    loose.write_bytes(("\r\n" + "\r\n\r\n".join(line.replace(" ", "   ") + " " for line in GOOD) + "\r\n").encode())
    assert_same(load_vocabulary(loose), load_vocabulary(plain))
    assert load_vocabulary(plain).weights.tolist() == [0, 0, 0.5, 1.25, 3]
    assert load_vocabulary(plain).node_of_word.tolist() == [2, 3, 4]


def replaced(line: int, old: str, new: str) -> Callable[[], str]:
    lines = list(GOOD)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    return lambda: "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (lambda: "", "is empty"),
        (lambda: GOOD[0], "no node follows"),
        (replaced(1, "2 2 0 0", "2 2 0"), r"line 1: .*four numbers"),
        (replaced(1, "2 2 0 0", "21 2 0 0"), r"line 1: the branching factor k must be from 0 to 20, got 21"),
        (replaced(1, "2 2 0 0", "2 11 0 0"), r"line 1: the depth L must be from 1 to 10, got 11"),
        (replaced(1, "2 2 0 0", "2 2 6 0"), r"line 1: the scoring .* got 6"),
        (replaced(1, "2 2 0 0", "2 2 0 4"), r"line 1: the weighting .* got 4"),
        (replaced(1, "2 2 0 0", "1 2 0 0"), r"5 nodes .* more than k = 1, L = 2 allow \(3\)"),
        (replaced(1, "2 2 0 0", "2 1 0 0"), r"5 nodes .* more than k = 2, L = 1 allow \(3\)"),
        (
            lambda: "\n".join(["2 1 0 0", f"0 0 {DESCRIPTOR} 0", f"1 1 {DESCRIPTOR} 1"]),
            r"line 3: node 2 .* deeper than L = 1",
        ),
        (replaced(1, "2 2 0 0", "2 6 0 0"), r"line 3: node 2 .* depth below L - 4 = 2"),
        (replaced(2, "0 0 7", "1 0 7"), r"line 2: the parent must be one of the nodes before, 0 to 0, got '1'"),
        (replaced(4, "1 1 7", "-1 1 7"), r"line 4: the parent"),
        (replaced(4, "1 1 7", f"{'9' * 5000} 1 7"), r"line 4: the parent .*got '9+\.\.\.'"),
        (replaced(1, "2 2 0 0", f"{'2' * 5000} 2 0 0"), r"line 1: a vocabulary begins with four numbers"),
        (replaced(3, "0 1 7", "0 2 7"), r"line 3: the leaf flag must be 0 or 1, got '2'"),
        (replaced(3, "0 1 7", "0 0 7"), r"line 3: node 2 has the leaf flag 0, but no node has it for a parent"),
        (replaced(2, "0 0 7", "0 1 7"), r"line 2: node 1 has the leaf flag 1, but another node has it"),
        (replaced(5, "1 1 7", "0 1 7"), r"line 1: node 0 .* more than k = 2 children"),
        (replaced(4, " 7", " 256"), r"line 4: .*bytes must be numbers from 0 to 255, got '256'"),
        (replaced(4, " 7", " 7.5"), r"line 4: .*got '7.5'"),
        (replaced(5, " 7", ""), r"line 5: a node has 35 values .*found 34"),
        (replaced(5, "3", "3 0"), r"line 5: a node has 35 values .*found 36"),
        (replaced(4, "1.25", "nan"), r"line 4: the weight .*got 'nan'"),
        (replaced(4, "1.25", "-1.25"), r"line 4: the weight .*got '-1.25'"),
        (replaced(4, "1.25", "heavy"), r"line 4: the weight .*got 'heavy'"),
        (replaced(4, "1.25", "1e300"), r"line 4: the weight must be .*to 3.4e\+38, got '1e300'"),
    ],
)
def test_broken_text_gives_a_sentence_with_file_and_line(
    tmp_path: Path, text: Callable[[], str], sentence: str
) -> None:
    path = tmp_path / "broken.txt"
    path.write_text(text())
    with pytest.raises(VocabularyError, match=sentence) as caught:
        load_vocabulary(path)
    assert str(path) in str(caught.value)


def test_the_line_of_an_error_counts_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "blank.txt"
    path.write_text("\n\n".join(GOOD).replace("0 1 7", "0 0 7", 1))
    with pytest.raises(VocabularyError, match="line 5: node 2"):
        load_vocabulary(path)


def test_broken_binaries_give_a_sentence(tmp_path: Path) -> None:
    text, path = tmp_path / "good.txt", tmp_path / "broken.bin"
    text.write_text("\n".join(GOOD))
    save_vocabulary(load_vocabulary(text), path)
    good = path.read_bytes()
    for content, sentence in (
        (good[:10], "10 bytes, the header"),
        (good[:-1], "cut off"),
        (good + b"\0", "cut off"),
        (good[:24] + b"\x01" + good[25:], "node 1: the parent must be a node before"),
        (good[:24] + b"\xff\xff\xff\xff" + good[28:], "node 1: the parent must be a node before"),
        (good[:64] + b"\x01" + good[65:], "node 1: the leaf flag is 1, but the node has children"),
        (good[:64] + b"\x02" + good[65:], "leaf flag 0 or 1"),
        (good[:8] + struct.pack("<i", -1) + good[12:], "branching factor k must be from 0"),
        (good[:-5] + struct.pack("<f", float("nan")) + good[-1:], "node 4 .*finite"),
    ):
        path.write_bytes(content)
        with pytest.raises(VocabularyError, match=sentence) as caught:
            load_vocabulary(path)
        assert str(path) in str(caught.value)


def test_files_that_are_no_vocabulary_give_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file.txt.xz"
    with pytest.raises(VocabularyError, match=r"cannot read .*file\.txt\.xz"):
        load_vocabulary(path)
    path.write_bytes(lzma.compress("\n".join(GOOD).encode())[:-20])
    with pytest.raises(VocabularyError, match="broken xz file"):
        load_vocabulary(path)
    path.write_bytes(bytes(range(256)))
    with pytest.raises(VocabularyError, match="line 1"):
        load_vocabulary(path)
    path.write_text("\n".join(GOOD))
    with pytest.raises(VocabularyError, match=r"ends in \.txt, \.txt\.xz, \.bin"):
        save_vocabulary(load_vocabulary(path), tmp_path / "vocabulary.yml.gz")


@pytest.mark.slow
def test_a_large_vocabulary_is_read_and_written_byte_by_byte(tmp_path: Path) -> None:
    if not ORB_VOCABULARY.is_file():
        pytest.skip(f"{ORB_VOCABULARY} is not here")
    vocabulary = load_vocabulary(ORB_VOCABULARY)
    assert len(vocabulary) == 121_609
    assert (vocabulary.branching, vocabulary.depth) == (10, 6)
    save_vocabulary(vocabulary, tmp_path / "again.txt")
    with lzma.open(ORB_VOCABULARY) as original:
        assert (tmp_path / "again.txt").read_bytes() == original.read()
