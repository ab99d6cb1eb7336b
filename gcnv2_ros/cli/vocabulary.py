# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 vocab`: train a vocabulary, convert it between its forms, find the images that look like one."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import SEQUENCE_HELP, add_extractor_arguments, decode_options, extractor_options, open_and_tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..extraction import Extractor
    from ..sequences import Sequence

_SOURCE = f"what the words, or the frames to rank, are from: {SEQUENCE_HELP}"
_FORMS = ".txt (DBoW2's text, as ORB-SLAM2 and 3 load it) or .bin (their forks' binary form), packed with .xz behind"
_DEFAULT = "default for the one that the package ships"
_FRAMES_A_LINE = 50


def add_parsers(subparsers: Any) -> None:
    """Add `vocab` with `train`, `convert` and `query`."""
    vocab = subparsers.add_parser("vocab", help="train, convert and query bag-of-words vocabularies in DBoW2's formats")
    actions = vocab.add_subparsers(dest="action", required=True, metavar="ACTION")

    train = actions.add_parser("train", help="train a vocabulary on the features of pictures and sequences")
    train.add_argument("sources", nargs="+", metavar="SOURCE", help=_SOURCE)
    train.add_argument("--out", type=Path, required=True, help=f"file to write: {_FORMS}")
    train.add_argument("--branching", type=int, default=10, help="children of a node, 2-20 (default: %(default)s)")
    train.add_argument("--depth", type=int, default=5, help="levels, 1-10 (default: %(default)s)")
    train.add_argument("--seed", type=int, default=0, help="of the first centres (default: %(default)s)")
    train.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th frame (default: all)")
    add_extractor_arguments(train)
    train.set_defaults(run=run_train)
    train.description = (
        "Train a vocabulary. --input-size takes several sizes, 640x480,320x240: the pictures are extracted at each, "
        "and the words then serve all of them. Beside the file, FILE.json says what it was made from."
    )

    convert = actions.add_parser("convert", help="rewrite a vocabulary in another form, and check it on the way")
    convert.add_argument("source", metavar="IN", help=f"text or binary, packed or not, or {_DEFAULT}")
    convert.add_argument("--model", default="gcnv2_tiny", help="network of the default vocabulary (%(default)s)")
    convert.add_argument("target", type=Path, metavar="OUT", help=_FORMS)
    convert.set_defaults(run=run_convert)

    query = actions.add_parser("query", help="list the frames of a sequence that look most like a picture")
    query.add_argument("vocabulary", metavar="VOCABULARY", help=f"file, or {_DEFAULT}")
    query.add_argument("image", type=Path, metavar="IMAGE", help="picture file")
    query.add_argument("source", metavar="SOURCE", help=_SOURCE)
    query.add_argument("--top", type=int, default=10, help="how many (default: %(default)s)")
    query.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th frame (default: all)")
    add_extractor_arguments(query)
    query.set_defaults(run=run_query)


def run_train(arguments: argparse.Namespace) -> None:
    """Extract at each size, train, write the vocabulary and its description."""
    from ..extraction import create_extractor
    from ..files import sha256_of
    from ..vocabulary import VocabularyDescription, save_description, save_vocabulary, train_vocabulary
    from ..vocabulary.storage import check_target
    from ..vocabulary.train import check_shape

    # All that can be wrong is told before hours of work.
    check_target(arguments.out)
    check_shape(arguments.branching, arguments.depth)
    sizes = arguments.input_size.split(",")
    extractors = [extractor_options(argparse.Namespace(**{**vars(arguments), "input_size": size})) for size in sizes]
    decode = decode_options(arguments)
    described = {source: _described_source(source) for source in arguments.sources}
    images: list[NDArray[np.uint8]] = []
    counts = dict.fromkeys(arguments.sources, 0)
    sequences = {source: open_and_tell(source) for source in counts}
    for options in extractors:
        with create_extractor(options, decode) as extractor:
            info = extractor.info
            for source, sequence in sequences.items():
                found = [descriptors for _, descriptors in _described_frames(sequence, arguments.every, extractor)]
                images += found
                counts[source] = len(found)
    total = sum(map(len, images))
    print(f"training on {total} descriptors of {len(images)} images", file=sys.stderr, flush=True)
    vocabulary = train_vocabulary(images, branching=arguments.branching, depth=arguments.depth, seed=arguments.seed)
    save_vocabulary(vocabulary, arguments.out)
    description = VocabularyDescription(
        sha256=sha256_of(arguments.out),
        model=info.model,
        weights_sha256=info.weights_sha256,
        input_sizes=tuple(size or "image" for size in sizes),
        max_keypoints=decode.max_keypoints,
        images=len(images),
        descriptors=total,
        sources=tuple({**described[source], "images": count} for source, count in counts.items()),
        branching=arguments.branching,
        depth=arguments.depth,
        seed=arguments.seed,
        words=len(vocabulary),
    )
    save_description(description, arguments.out)
    print(f"{arguments.out}: {len(vocabulary)} words, k = {vocabulary.branching}, L = {vocabulary.depth}")


def _described_source(source: str) -> dict[str, Any]:
    """What the vocabulary's description says of a source, whose options do not belong to its name."""
    from ..sequences import split_options
    from ..vocabulary.description import terms_of

    path, _ = split_options(source)
    return {"source": Path(path).name, "terms": terms_of(path)}


def run_convert(arguments: argparse.Namespace) -> None:
    """Read, which checks the file, and write, with the description that belongs to it."""
    from ..files import sha256_of
    from ..vocabulary import load_description, load_vocabulary, save_description, save_vocabulary
    from ..vocabulary.description import description_path
    from ..vocabulary.storage import check_target, vocabulary_path

    check_target(arguments.target)
    source = vocabulary_path(arguments.source, model=arguments.model)
    description = load_description(source)
    vocabulary = load_vocabulary(source)
    save_vocabulary(vocabulary, arguments.target)
    if description is None:
        # One that is left of an earlier file there would have this one refused.
        description_path(arguments.target).unlink(missing_ok=True)
    else:
        save_description(replace(description, sha256=sha256_of(arguments.target)), arguments.target)
    print(f"{arguments.target}: {len(vocabulary)} words, k = {vocabulary.branching}, L = {vocabulary.depth}")


def run_query(arguments: argparse.Namespace) -> None:
    """Score every frame against the picture; print index and score, best first."""
    import numpy as np

    from ..extraction import create_extractor
    from ..sequences import Frame
    from ..sequences.reading import read_picture
    from ..vocabulary import VocabularyError, bag_of_words, l1_scores, load_vocabulary
    from ..vocabulary.storage import check_model

    if arguments.top < 1:
        raise VocabularyError(f"--top must be at least 1, got {arguments.top}")
    sequence = open_and_tell(arguments.source)
    with create_extractor(extractor_options(arguments), decode_options(arguments)) as extractor:
        info = extractor.info
        vocabulary = load_vocabulary(arguments.vocabulary, model=info.model, weights_sha256=info.weights_sha256)
        if info.weights_sha256 is None:
            check_model(arguments.vocabulary, info.model)
        gray = Frame(0, 0, read_picture(arguments.image)).gray
        wanted = bag_of_words(vocabulary, _binary(extractor, gray))
        frames = [
            (index, bag_of_words(vocabulary, descriptors))
            for index, descriptors in _described_frames(sequence, arguments.every, extractor)
        ]
    scores = l1_scores(wanted, [bag for _, bag in frames])
    for position in np.argsort(-scores, kind="stable")[: arguments.top]:
        print(f"frame {frames[position][0]}: {scores[position]:.4f}")


def _described_frames(sequence: Sequence, every: int, extractor: Extractor) -> list[tuple[int, NDArray[np.uint8]]]:
    """Index and descriptors of every `every`-th frame; progress goes to standard error."""
    from ..vocabulary import VocabularyError

    if every < 1:
        raise VocabularyError(f"--every must be at least 1, got {every}")
    described = []
    for index in range(0, len(sequence), every):
        described.append((index, _binary(extractor, sequence[index].gray)))
        if len(described) % _FRAMES_A_LINE == 0:
            print(f"{sequence.name}: {len(described)} images", file=sys.stderr, flush=True)
    return described


def _binary(extractor: Extractor, gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Descriptors of an image, refused where they are no 256 bits."""
    import numpy as np

    from ..vocabulary import VocabularyError

    features = extractor.extract(gray)
    if features.metric != "hamming":
        raise VocabularyError(
            f"a vocabulary takes binary descriptors; those of {extractor.info.model} are compared by {features.metric}"
        )
    return np.asarray(features.descriptors, np.uint8)
