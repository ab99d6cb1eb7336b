# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 train-prepare`, `gcnv2 train`, `gcnv2 train-export`: from photographs to weights."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import GCNv2Error
from ..libraries import import_library
from .common import check_folder, check_result, check_threads, open_and_tell

if TYPE_CHECKING:
    from ..training.config import TrainingConfig
    from ..training.pairs import PairSource

# Of a tile; in a smaller one few keypoints are left between the borders.
_LEAST_SHORT_SIDE = 64


def add_parsers(subparsers: Any) -> None:
    """Add the training subcommands."""
    corpus = subparsers.add_parser(
        "train-corpus", help="build the training set of the shipped weights from named free packages"
    )
    corpus.add_argument("out", type=Path, help="folder to make")
    corpus.add_argument("--packages", type=Path, default=None, help="where package files are kept, several GB")
    corpus.set_defaults(run=run_corpus)

    prepare = subparsers.add_parser(
        "train-prepare", help="cut photographs into training pictures and find a teacher's keypoints on them"
    )
    prepare.add_argument("photographs", type=Path, help="folder of pictures (with index.csv: its `train` split)")
    prepare.add_argument("out", type=Path, help="folder to write; an interrupted run goes on there")
    prepare.add_argument(
        "--teacher", default="shi_tomasi", help="shi_tomasi, or an extractor's model (default: %(default)s)"
    )
    prepare.add_argument("--teacher-weights", default="default", help="weights of the teacher")
    prepare.add_argument(
        "--teacher-threshold", type=float, default=None, help="lowest score of a keypoint (default: the teacher's own)"
    )
    prepare.add_argument("--short-side", type=int, default=512, help="shorter side of a picture (default: %(default)s)")
    prepare.add_argument(
        "--stage",
        choices=("whole", "parts", "all"),
        default="all",
        help="reduced pictures, full-resolution parts of them, or both (default: %(default)s)",
    )
    prepare.add_argument(
        "--category",
        action="append",
        default=None,
        help="only these pictures of a corpus (photograph, rendering, texture, artwork; repeatable; default: all)",
    )
    prepare.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    prepare.set_defaults(run=run_prepare)

    train = subparsers.add_parser("train", help="train a network, or go on with a training")
    train.add_argument("config", type=Path, help="YAML configuration, see docs/training.md")
    train.add_argument("out", type=Path, help="folder of the run: checkpoints, TensorBoard log, weights")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda (one GPU a process) or cuda:N")
    train.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    train.add_argument("--until", type=int, default=None, help="stop after this many steps in all")
    train.set_defaults(run=run_train)

    export = subparsers.add_parser("train-export", help="turn a training run's state into a weights file")
    export.add_argument("run_folder", type=Path, help="folder of the run")
    export.add_argument("weights", type=Path, help=".safetensors file to write")
    export.add_argument(
        "--checkpoints",
        nargs="+",
        default=["last.pt"],
        metavar="NAME",
        help="checkpoints in the run's folder; of several the mean is written (default: last.pt)",
    )
    export.add_argument(
        "--mean-with",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="weights files that go into the mean, each as the checkpoints together do",
    )
    export.add_argument("--note", default="", help="a sentence for the file's provenance")
    export.add_argument(
        "--licence", default="", help="of the weights, by its short name, e.g. Apache-2.0 (default: nothing is said)"
    )
    export.set_defaults(run=run_export)


def run_corpus(arguments: argparse.Namespace) -> None:
    """Fetch the packages and write the pictures with their licences."""
    from ..training.corpus import build_corpus

    summary = build_corpus(
        arguments.out, packages_folder=arguments.packages, progress=lambda line: print(line, flush=True)
    )
    print(f"{arguments.out}: {summary['pictures']} pictures")


def run_prepare(arguments: argparse.Namespace) -> None:
    """Cut photographs into tiles and let the teacher find keypoints."""
    import cv2
    from tqdm import tqdm

    from ..extraction import DecodeOptions, ExtractorOptions, create_extractor
    from ..files import atomic_write
    from ..training.corpus import corpus_summary, is_corpus
    from ..training.pictures import TrainingDataError, find_photographs, prepare_pictures
    from ..training.targets import shi_tomasi_corners

    check_threads(arguments.threads)
    if arguments.short_side < _LEAST_SHORT_SIDE:
        raise GCNv2Error(f"--short-side must be at least {_LEAST_SHORT_SIDE} pixels, got {arguments.short_side}")
    check_folder(arguments.out)
    photographs = find_photographs(arguments.photographs, split="train", categories=arguments.category)
    if arguments.threads:
        cv2.setNumThreads(arguments.threads)
    threshold = arguments.teacher_threshold
    if arguments.teacher == "shi_tomasi":
        if threshold is not None:
            raise TrainingDataError("--teacher-threshold is for a teacher that is an extractor; shi_tomasi has none")
        detect: Any = shi_tomasi_corners
        teacher = "shi_tomasi"
    else:
        options = ExtractorOptions(
            model=arguments.teacher, weights=arguments.teacher_weights, threads=arguments.threads
        )
        extractor = create_extractor(
            options, DecodeOptions(max_keypoints=4000, score_threshold=threshold, detector="network")
        )

        def teach(image: Any) -> Any:
            features = extractor.extract(image)
            return features.uv, features.response

        detect = teach
        teacher = f"{arguments.teacher} {extractor.info.weights_sha256}"
        # Left out where it is not given, so that folders of before can be gone on with.
        teacher += "" if threshold is None else f", score from {threshold:g}"
    with tqdm(total=None, unit="picture", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        count = prepare_pictures(
            photographs,
            arguments.out,
            detect,
            teacher=teacher,
            folder=arguments.photographs,
            short_side=arguments.short_side,
            stages=("whole", "parts") if arguments.stage == "all" else (arguments.stage,),
            progress=progress,
        )
    if is_corpus(arguments.photographs):
        summary = corpus_summary(arguments.photographs, categories=arguments.category)
        atomic_write(arguments.out / "source.json", json.dumps(summary))
    print(f"{arguments.out}: {count} training pictures of {len(photographs)} photographs, keypoints by {teacher}")


def pair_sources(config: TrainingConfig) -> list[tuple[PairSource, float]]:
    """The pair sources that a configuration names."""
    from ..training.geometric import GeometricPairs
    from ..training.pairs import HomographyPairs
    from ..training.pictures import TrainingDataError, load_pictures
    from ..training.targets import shi_tomasi_corners

    data = config.data
    loaded = {folder: load_pictures(folder) for folder in set(data.pictures)}
    pictures = [picture for folder in data.pictures for picture in loaded[folder]]
    blobs = config.target.blob_share > 0
    sources: list[tuple[PairSource, float]] = []
    if pictures:
        sources.append((HomographyPairs(pictures, config.warp, config.photometric, blobs), 1.0))
    for spec in data.sequences:
        sequence = open_and_tell(spec)
        geometric = GeometricPairs(sequence, shi_tomasi_corners, config.photometric, blobs=blobs)
        # Without pictures the sequences are everything; among themselves they share evenly.
        total = data.sequence_share / (1 - data.sequence_share) if pictures else 1.0
        sources.append((geometric, total / len(data.sequences)))
    if not sources:
        raise TrainingDataError("the configuration names no data.pictures and no data.sequences to train on")
    return sources


def run_train(arguments: argparse.Namespace) -> None:
    """Train, printing losses and validation figures; write the weights at the end."""
    import torch
    from tqdm import tqdm

    from ..training.config import load_config
    from ..training.devices import training_device
    from ..training.loop import StepReport, Trainer
    from ..training.pictures import find_photographs

    import_library("tensorboard", "`gcnv2 train`", "pip install tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    check_threads(arguments.threads)
    check_folder(arguments.out)
    device = training_device(arguments.device, os.environ)
    config = load_config(arguments.config)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    trainer = Trainer(config, arguments.out, pair_sources(config), device=device)
    validation = None
    if config.data.validation and trainer.rank == 0:
        from ..training.validation import Validation

        pictures = [path for folder in config.data.validation for path in find_photographs(folder, split="validation")]
        validation = Validation(pictures, nms_radius=round(config.target.suppression), sampling=config.loss.sampling)
        print("orb", json.dumps(validation.score("orb")), flush=True)
    writer = SummaryWriter(str(arguments.out / "tensorboard")) if trainer.rank == 0 else None
    warned: set[str] = set()
    with tqdm(total=config.schedule.steps, initial=trainer.step, unit="step", disable=not sys.stderr.isatty()) as bar:

        def on_step(report: StepReport) -> None:
            bar.update(report.step - bar.n)
            if report.step % 50 or writer is None:
                return
            for name, value in report.losses.items():
                writer.add_scalar(f"loss/{name}", value, report.step)
            writer.add_scalar("watch/stuck_bits", report.stuck_bits, report.step)
            writer.add_scalar("watch/score_contrast", report.score_contrast, report.step)
            writer.add_scalar("watch/learning_rate", report.learning_rate, report.step)
            bar.set_postfix({name: f"{value:.3f}" for name, value in report.losses.items()})
            for warning in report.warnings():
                if warning.split(" at step")[0] not in warned:
                    warned.add(warning.split(" at step")[0])
                    tqdm.write(f"warning: {warning}", file=sys.stderr)

        def validate(network: Any) -> dict[str, float]:
            figures = validation.score(config.model, network) if validation else {}
            for name, value in figures.items():
                if writer is not None:
                    writer.add_scalar(f"validation/{name}", value, trainer.step)
            tqdm.write(f"step {trainer.step} {json.dumps({k: round(v, 4) for k, v in figures.items()})}")
            sys.stdout.flush()
            return figures

        trainer.run(on_step=on_step, validate=validate, until=arguments.until)
    if writer is not None:
        writer.close()
    print(
        f"{arguments.out}: {trainer.step} of {config.schedule.steps} steps done; "
        "`gcnv2 train-export` writes the weights"
    )


def run_export(arguments: argparse.Namespace) -> None:
    """Write a run's moving average, normalisation folded, as a weights file."""
    from ..training.export import export_run

    check_result(arguments.weights, ".safetensors", "a weights file")
    metadata = export_run(
        arguments.run_folder,
        arguments.weights,
        checkpoints=arguments.checkpoints,
        weights=arguments.mean_with,
        note=arguments.note,
        licence=arguments.licence,
    )
    print(f"{arguments.weights}: {metadata.model}, {metadata.training['steps']} steps")
