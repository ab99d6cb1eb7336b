# SPDX-License-Identifier: Apache-2.0
"""Weights: every format that is read, what is refused and how it is said, metadata, conversion, shipped files."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gcnv2_ros.files import sha256_of
from gcnv2_ros.networks import NetworkError, create_network
from gcnv2_ros.weights import (
    LearnedSampling,
    WeightsError,
    WeightsMetadata,
    convert_weights,
    load_weights,
    save_weights,
    shipped_models,
)

StateDict = dict[str, Tensor]

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")


@pytest.fixture(scope="module")
def tiny() -> StateDict:
    torch.manual_seed(0)
    return create_network("gcnv2_tiny").state_dict()


def assert_equal(found: StateDict, expected: StateDict) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def write_torch_1_0_archive(path: Path, state_dict: StateDict) -> None:
    """An archive in the layout of torch 1.0 to 1.2: a module tree in JSON over a table of tensors.

    Tensors share a storage two by two, so that offsets count, and 64-bit integers are strings, as in the original.
    """
    main: dict = {"name": "", "optimize": True, "submodules": [], "parameters": []}
    tensors = []
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("gcn/version", "1\n")
        items = list(state_dict.items())
        for first in range(0, len(items), 2):
            key, offset = f"tensors/{first}", 0
            values = []
            for name, tensor in items[first : first + 2]:
                *parents, leaf = name.split(".")
                module = main
                for parent in parents:
                    children = [child for child in module["submodules"] if child["name"] == parent]
                    if not children:
                        children = [{"name": parent, "optimize": True, "submodules": [], "parameters": []}]
                        module["submodules"] += children
                    module = children[0]
                module["parameters"].append({"isBuffer": False, "tensorId": str(len(tensors)), "name": leaf})
                tensors.append(
                    {
                        "dims": [str(extent) for extent in tensor.shape],
                        "offset": str(offset),
                        "strides": [str(step) for step in tensor.stride()],
                        "requiresGrad": True,
                        "dataType": "FLOAT",
                        "data": {"key": key},
                        "device": "cuda:0",
                    }
                )
                values.append(tensor.flatten())
                offset += tensor.numel()
            archive.writestr(f"gcn/{key}", torch.cat(values).numpy().tobytes())
        model = {
            "protoVersion": "1",
            "mainModule": main,
            "producerName": "pytorch",
            "producerVersion": "1.0",
            "tensors": tensors,
        }
        archive.writestr("gcn/model.json", json.dumps(model))
        archive.writestr("gcn/code/gcn.py", "raise SystemExit('this must never run')\n")


def traced(state_dict: StateDict, path: Path) -> None:
    network = create_network("gcnv2_tiny").eval()
    network.load_state_dict(state_dict)
    torch.jit.trace(network, torch.rand(1, 1, 32, 32)).save(str(path))


class Wrapped(nn.Module):
    """A scripted module with attributes beside its parameters, nested, lists and dicts among them."""

    def __init__(self) -> None:
        super().__init__()
        self.names = ["a", "b"]
        self.sizes = [320, 240]
        self.table = {"a": 1}
        self.factor = 0.5
        self.inner = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.register_buffer("grid", torch.arange(6.0).reshape(2, 3).T)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.factor + self.table["a"] + self.sizes[0]


WRITERS: dict[str, Callable[[StateDict, Path], None]] = {
    "safetensors": lambda state, path: save_file(state, path),
    "state dict": lambda state, path: torch.save(state, path),
    "state dict of old": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "checkpoint": lambda state, path: torch.save({"epoch": 3, "state_dict": state, "loss": [0.1]}, path),
    "checkpoint, other key": lambda state, path: torch.save({"model": state, "step": 5}, path),
    "checkpoint, as PyTorch's manual has it": lambda state, path: torch.save({"model_state_dict": state}, path),
    "data parallel": lambda state, path: torch.save({f"module.{name}": value for name, value in state.items()}, path),
    "TorchScript": traced,
    "TorchScript of 2018": lambda state, path: write_torch_1_0_archive(path, state),
}


@pytest.fixture(scope="module")
def contents(tiny: StateDict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same weights as a file of every format."""
    found = {}
    for kind, write in WRITERS.items():
        path = tmp_path_factory.mktemp("weights") / "w"
        write(tiny, path)
        found[kind] = path.read_bytes()
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_parameters(
    kind: str, contents: dict[str, bytes], tiny: StateDict, tmp_path: Path
) -> None:
    # The name says nothing: formats are told apart by content.
    path = tmp_path / "weights.bin"
    path.write_bytes(contents[kind])
    weights = load_weights(path, model="gcnv2_tiny")
    assert_equal(weights.state_dict, tiny)
    assert weights.sha256 == sha256_of(path)
    assert weights.path == path
    assert weights.metadata.model == "gcnv2_tiny"
    assert weights.metadata.sampling == ("legacy" if kind.startswith("TorchScript") else "half_pixel")
    create_network("gcnv2_tiny").load_state_dict(weights.state_dict)


def test_half_precision_files_are_loaded_as_float32(tiny: StateDict, tmp_path: Path) -> None:
    torch.save({name: value.half() for name, value in tiny.items()}, tmp_path / "half.pt")
    loaded = load_weights(tmp_path / "half.pt", model="gcnv2_tiny").state_dict
    assert_equal(loaded, {name: value.half().float() for name, value in tiny.items()})


def test_scripted_modules_with_other_attributes_give_their_parameters(tmp_path: Path) -> None:
    from gcnv2_ros.weights.torchscript import read_torchscript

    module = torch.jit.script(Wrapped().eval())
    module.save(str(tmp_path / "module.pt"))
    assert_equal(read_torchscript(tmp_path / "module.pt"), module.state_dict())


def test_batch_normalisation_counters_may_be_absent(tmp_path: Path) -> None:
    state = create_network("gcnv2_mobile").state_dict()
    save_file({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "old.safetensors")
    weights = load_weights(tmp_path / "old.safetensors", model="gcnv2_mobile")
    create_network("gcnv2_mobile").load_state_dict(weights.state_dict)


def refused(path: Path, model: str = "gcnv2_tiny") -> str:
    """The one sentence with which a file is refused; it must name the file."""
    with pytest.raises(WeightsError) as caught:
        load_weights(path, model=model)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_weights_of_another_network_are_recognised(tiny: StateDict, tmp_path: Path) -> None:
    torch.save(tiny, tmp_path / "tiny.pt")
    assert "look like weights of gcnv2_tiny" in refused(tmp_path / "tiny.pt", "gcnv2")
    torch.save(create_network("gcnv2").state_dict(), tmp_path / "full.pt")
    assert "look like weights of gcnv2;" in refused(tmp_path / "full.pt")
    metadata = WeightsMetadata("gcnv2_tiny")
    save_weights(tmp_path / "tiny.safetensors", tiny, metadata)
    assert "weights of gcnv2_tiny, not of gcnv2_mobile" in refused(tmp_path / "tiny.safetensors", "gcnv2_mobile")


def test_missing_unexpected_and_misshapen_parameters_are_named(tiny: StateDict, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({name: value for name, value in tiny.items() if name != "convD_2.bias"}, path)
    assert "missing: convD_2.bias" in refused(path)
    torch.save({**tiny, "conv5.weight": torch.zeros(1)}, path)
    assert "unexpected: conv5.weight" in refused(path)
    torch.save({**tiny, "conv1.weight": torch.zeros(32, 3, 4, 4)}, path)
    assert "conv1.weight is 32x3x4x4, expected 32x1x4x4" in refused(path)
    torch.save({"conv1.weight": tiny["conv1.weight"]}, path)
    assert re.search(r"missing: conv1.bias, .* and 15 more", refused(path))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.0001, 0.5, 0.999])
def test_truncated_files_are_said_to_be(kind: str, share: float, contents: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(contents[kind][: int(len(contents[kind]) * share)])
    assert "truncated or damaged" in refused(path)


@pytest.mark.parametrize("kind", ["TorchScript", "TorchScript of 2018", "state dict"])
def test_flipped_bytes_are_noticed(kind: str, contents: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "w"
    content = bytearray(contents[kind])
    for position in range(200, len(content), len(content) // 50):
        content[position] ^= 0xFF
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("kind", ["TorchScript", "TorchScript of 2018", "state dict"])
@pytest.mark.parametrize(
    ("field", "value"),
    # Of an entry of the directory: its signature, the version that reads it, the method, the first byte of the name.
    [(0, b"XX"), (6, b"\xff\x00"), (10, b"\x63\x00"), (46, b"\xff")],
)
def test_a_damaged_directory_of_an_archive_is_noticed(
    kind: str, field: int, value: bytes, contents: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "w"
    content = bytearray(contents[kind])
    start = -1
    while (start := content.find(b"PK\x01\x02", start + 1)) >= 0:
        # Names are written as UTF-8 in any case.
        content[start + 9] |= 0x08
        content[start + field : start + field + len(value)] = value
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("content", [b"", b"hello, world, this is text", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_other_files_are_no_weights(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    assert "expected a .safetensors file, a PyTorch state dict or checkpoint, or a TorchScript archive" in refused(path)


def test_a_zip_of_something_else_is_no_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.jpg", b"...")
    refused(tmp_path / "photos.zip")


def test_absent_files_and_folders_are_said_to_be(tmp_path: Path) -> None:
    assert "there is no weights file" in refused(tmp_path / "absent.pt")
    assert "cannot be read" in refused(tmp_path)


def test_tensors_that_are_no_state_dict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(torch.zeros(3), path)
    assert "Tensor where a state dict was expected" in refused(path)
    torch.save({"epoch": 3, "weights": {}}, path)
    assert "'epoch' is a int" in refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float, tiny: StateDict, tmp_path: Path) -> None:
    bad = {name: tensor.clone() for name, tensor in tiny.items()}
    bad["conv3_1.bias"][5] = value
    torch.save(bad, tmp_path / "w.pt")
    assert "NaN or infinite values in conv3_1.bias" in refused(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"conv3_1\.bias"):
        save_weights(tmp_path / "w.safetensors", bad, WeightsMetadata("gcnv2_tiny"))
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda tensor: (10 * tensor).to(torch.int32), "torch.int32"),
        (lambda tensor: tensor > 0, "torch.bool"),
        (lambda tensor: tensor.to(torch.complex64), "torch.complex64"),
        (lambda tensor: tensor.to_sparse(), "torch.sparse_coo"),
        (lambda tensor: tensor.to("meta"), "on the device meta, without values"),
    ],
)
def test_numbers_of_another_kind_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor], kind: str, tiny: StateDict, tmp_path: Path
) -> None:
    path = tmp_path / "w.pt"
    torch.save({**tiny, "conv3_1.bias": change(tiny["conv3_1.bias"])}, path)
    sentence = refused(path)
    assert f"conv3_1.bias ({kind}), expected dense floating-point tensors" in sentence
    torch.save({name: change(tensor) for name, tensor in tiny.items()}, path)
    assert " more, expected dense floating-point tensors" in refused(path)


class Planted:
    """Pickles to a call that leaves a trace when it is made."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


def test_nothing_in_a_file_is_executed(tiny: StateDict, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    torch.save({**tiny, "planted": Planted(trace)}, tmp_path / "state.pt")
    assert "can run code" in refused(tmp_path / "state.pt")
    archive_path = tmp_path / "script.pt"
    with zipfile.ZipFile(archive_path, "w") as archive:
        archive.writestr("w/constants.pkl", pickle.dumps(()))
        archive.writestr("w/data.pkl", pickle.dumps(Planted(trace), protocol=2))
    assert "asks for the Python object" in refused(archive_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "hostile",
    [
        b"cbuiltins\neval\n(V1+1\ntR.",
        b"cos\nsystem\n(Vtrue\ntR.",
        b"ctorch._utils\n_rebuild_tensor_v2\n.",
        b"c__torch__.A\nB\n)\x81}Vself\nc__torch__.A\n__class__\nsb.",
        b"ctorch\nload\n.",
        b"",
        b"\x80\x02(((((",
    ],
)
def test_hostile_pickles_in_torchscript_archives_are_refused(hostile: bytes, tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/constants.pkl", b"")
        archive.writestr("w/data.pkl", hostile)
    refused(path)


def test_tensors_that_reach_beyond_their_storage_are_refused(tiny: StateDict, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    write_torch_1_0_archive(path, tiny)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    model = json.loads(records["gcn/model.json"])
    for change in (
        {"offset": "100000000"},
        {"offset": "-1"},
        {"dims": ["1000000000", "1000000000"], "strides": ["0", "0"]},
        {"dims": ["32", "-1"], "strides": ["1", "1"]},
        {"dims": ["32", "1"], "strides": ["1"]},
        {"data": {"key": "tensors/999"}},
        {"dataType": "STRING"},
    ):
        changed = {**model, "tensors": [{**model["tensors"][0], **change}, *model["tensors"][1:]]}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**records, "gcn/model.json": json.dumps(changed)}.items():
                archive.writestr(name, content)
        refused(path)


def test_modules_that_contain_themselves_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    loop = b"c__torch__\nA\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/constants.pkl", b"")
        archive.writestr("w/data.pkl", b"\x80\x02" + loop)
    assert "nested without end" in refused(path)


METADATA = WeightsMetadata(
    "gcnv2_tiny",
    sampling="half_pixel",
    score_thresholds={"320x240": 0.125, "640x480": 0.25},
    smoothing={"320x240": 0.0, "640x480": 1.5},
    detector="blobs",
    candidates="peaks",
    nms_radius={"320x240": 2, "640x480": 3},
    input_sizes=((320, 240), (640, 480)),
    training={"images": 12345, "recipe": {"rate": 0.002}},
    licence="Apache-2.0",
)


def test_saved_weights_come_back_with_their_metadata(tiny: StateDict, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "w.safetensors"
    save_weights(path, tiny, METADATA, dtype=torch.float32)
    weights = load_weights(str(path), model="gcnv2_tiny")
    assert weights.metadata == METADATA
    assert_equal(weights.state_dict, tiny)
    save_weights(path, tiny, METADATA)
    assert_equal(load_weights(path, model="gcnv2_tiny").state_dict, {k: v.half().float() for k, v in tiny.items()})
    assert [entry.name for entry in path.parent.iterdir()] == ["w.safetensors"]


def test_integers_are_stored_as_they_are(tmp_path: Path) -> None:
    state = create_network("gcnv2_mobile").state_dict()
    state["features.0.1.num_batches_tracked"] = torch.tensor(123_456_789)
    save_weights(tmp_path / "w.safetensors", state, WeightsMetadata("gcnv2_mobile"))
    loaded = load_weights(tmp_path / "w.safetensors", model="gcnv2_mobile").state_dict
    assert loaded["features.0.1.num_batches_tracked"] == 123_456_789


def test_values_too_large_for_half_precision_are_not_lost_in_silence(tiny: StateDict, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"conv1\.bias.*float16"):
        save_weights(tmp_path / "w", {**tiny, "conv1.bias": torch.full((32,), 1e6)}, WeightsMetadata("gcnv2_tiny"))


def test_weights_that_do_not_fit_their_metadata_are_not_saved(tiny: StateDict, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="do not fit gcnv2"):
        save_weights(tmp_path / "w.safetensors", tiny, WeightsMetadata("gcnv2"))


LEARNED = replace(METADATA, sampling="learned")
KERNEL = torch.linspace(-1, 1, 2 * 2 * 5 * 256).reshape(2, 2, 5, 256).half().float()
MIXING = torch.linspace(-1, 1, 4 * 64 * 64).reshape(4, 64, 64).half().float()


@pytest.mark.parametrize("mixing", [None, MIXING])
def test_learned_sampling_comes_back_with_the_weights(
    mixing: torch.Tensor | None, tiny: StateDict, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    learned = LearnedSampling(KERNEL, mixing)
    save_weights(path, tiny, LEARNED, learned_sampling=learned)
    weights = load_weights(path, model="gcnv2_tiny")
    assert weights.metadata == LEARNED
    assert weights.learned_sampling is not None
    assert_equal(weights.learned_sampling.tensors(), learned.tensors())
    assert weights.state_dict.keys() == tiny.keys()


def test_a_sampling_kernel_without_imaginary_parts_is_a_real_one(tiny: StateDict, tmp_path: Path) -> None:
    path = tmp_path / "gcnv2_tiny.safetensors"
    save_weights(path, tiny, LEARNED, learned_sampling=LearnedSampling(KERNEL[:, 0]))
    learned = load_weights(path, model="gcnv2_tiny").learned_sampling
    assert learned is not None
    kernel = learned.kernel
    assert_equal({"real": kernel[:, 0]}, {"real": KERNEL[:, 0]})
    assert kernel.shape == KERNEL.shape
    assert not kernel[:, 1].any()


@pytest.mark.parametrize(
    ("metadata", "tensors", "message"),
    [
        (METADATA, {"sampling_kernel": KERNEL}, "holds sampling_kernel, but its sampling is half_pixel"),
        (LEARNED, {}, "has learned sampling, but no sampling_kernel.*train-export"),
        (LEARNED, {"sampling_kernel": KERNEL[:, :, :4]}, "sampling_kernel of 2x2x4x256"),
        (LEARNED, {"sampling_kernel": KERNEL[0, 0]}, "sampling_kernel of 5x256"),
        (LEARNED, {"sampling_kernel": KERNEL[0, :1]}, "sampling_kernel of 1x5x256"),
        (LEARNED, {"sampling_kernel": KERNEL[:, :, :, :128]}, "sampling_kernel of 2x2x5x128"),
        (METADATA, {"sampling_mixing": MIXING}, "holds sampling_mixing, but its sampling is half_pixel"),
        (LEARNED, {"sampling_mixing": MIXING}, "has learned sampling, but no sampling_kernel"),
        (LEARNED, {"sampling_kernel": KERNEL, "sampling_mixing": MIXING[:3]}, "sampling_mixing of 3x64x64"),
        (LEARNED, {"sampling_kernel": KERNEL, "sampling_mixing": MIXING[:, :32]}, "sampling_mixing of 4x32x64"),
        (LEARNED, {"sampling_kernel": KERNEL, "sampling_mixing": MIXING[0]}, "sampling_mixing of 64x64"),
    ],
)
def test_learned_sampling_that_does_not_fit_is_neither_saved_nor_loaded(
    metadata: WeightsMetadata, tensors: StateDict, message: str, tiny: StateDict, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    if "sampling_kernel" in tensors or not tensors:
        learned = LearnedSampling(tensors["sampling_kernel"], tensors.get("sampling_mixing")) if tensors else None
        with pytest.raises(WeightsError, match=message):
            save_weights(path, tiny, metadata, learned_sampling=learned)
        assert not path.exists()
    stored = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file({**tiny, **stored}, path, metadata={"gcnv2_ros": metadata.to_json()})
    with pytest.raises(WeightsError, match=message):
        load_weights(path, model="gcnv2_tiny")


def test_a_kernel_with_values_that_are_not_finite_is_refused(tiny: StateDict, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {**tiny, "sampling_kernel": torch.full((2, 1, 256), torch.nan)}
    save_file(tensors, path, metadata={"gcnv2_ros": LEARNED.to_json()})
    with pytest.raises(WeightsError, match="NaN or infinite values in sampling_kernel"):
        load_weights(path, model="gcnv2_tiny")


def test_conversion_keeps_learned_sampling_unless_another_sampling_is_asked_for(
    tiny: StateDict, tmp_path: Path
) -> None:
    source, kept, left = (tmp_path / f"{name}.safetensors" for name in ("source", "kept", "left"))
    save_weights(source, tiny, LEARNED, learned_sampling=LearnedSampling(KERNEL, MIXING))
    assert convert_weights(source, kept).sampling == "learned"
    learned = load_weights(kept, model="gcnv2_tiny").learned_sampling
    assert learned is not None
    assert_equal(learned.tensors(), {"sampling_kernel": KERNEL, "sampling_mixing": MIXING})
    assert convert_weights(source, left, sampling="bicubic").sampling == "bicubic"
    assert load_weights(left, model="gcnv2_tiny").learned_sampling is None


@pytest.mark.parametrize(
    ("size", "threshold", "smoothing", "radius"),
    [((320, 240), 0.125, 0.0, 2), ((640, 480), 0.25, 1.5, 3), ((752, 480), 0.25, 1.5, 3), ((64, 64), 0.125, 0.0, 2)],
)
def test_recommendations_are_those_of_the_nearest_size(
    size: tuple[int, int], threshold: float, smoothing: float, radius: int
) -> None:
    assert METADATA.score_threshold(*size) == threshold
    assert METADATA.recommended_smoothing(*size) == smoothing
    assert METADATA.recommended_radius(*size) == radius
    assert WeightsMetadata("gcnv2").score_threshold(*size) is None
    assert WeightsMetadata("gcnv2").recommended_smoothing(*size) == 0.0
    assert WeightsMetadata("gcnv2").recommended_radius(*size) is None


@pytest.mark.parametrize(("recorded", "radius"), [("0", 0), ("3", 3), ("null", None)])
def test_a_single_radius_of_earlier_files_holds_for_all_sizes(recorded: str, radius: int | None) -> None:
    text = f'{{"schema_version": 1, "model": "gcnv2_tiny", "nms_radius": {recorded}}}'
    metadata = WeightsMetadata.from_json(text)
    assert {metadata.recommended_radius(*size) for size in ((320, 240), (640, 480), (1280, 720))} == {radius}


@pytest.mark.parametrize(
    "values",
    [
        {"sampling": "nearest"},
        {"bit_order": "lsb_first"},
        {"score_thresholds": {"320": 0.1}},
        {"score_thresholds": {"0x240": 0.1}},
        {"score_thresholds": {"320x240": 1.5}},
        {"smoothing": {"320x240": -1.0}},
        {"smoothing": {"": 1.0}},
        {"nms_radius": {"320x240": -1}},
        {"nms_radius": {"320": 3}},
        {"candidates": "ridges"},
        {"detector": "corners"},
    ],
)
def test_metadata_outside_its_conventions_is_refused(values: dict) -> None:
    with pytest.raises(WeightsError):
        WeightsMetadata("gcnv2_tiny", **values)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 2, "model": "gcnv2"}', '{"schema_version": 1}'])
def test_metadata_that_cannot_be_read_names_the_file(text: str, tiny: StateDict, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(tiny, path, metadata={"gcnv2_ros": text})
    assert "metadata" in refused(path)


@pytest.mark.parametrize("radius", ["1e400", '{"320x240": 1e400}', '{"320x240": NaN}'])
def test_a_radius_that_is_no_whole_number_is_refused(radius: str) -> None:
    with pytest.raises(WeightsError, match="metadata that cannot be read"):
        WeightsMetadata.from_json(f'{{"schema_version": 1, "model": "gcnv2_tiny", "nms_radius": {radius}}}')


def test_metadata_of_a_later_minor_version_is_read_without_what_is_new() -> None:
    entries = {**json.loads(METADATA.to_json()), "colour": "blue"}
    assert WeightsMetadata.from_json(json.dumps(entries)) == METADATA


@pytest.mark.parametrize(("kind", "sampling"), [("state dict", "half_pixel"), ("TorchScript of 2018", "legacy")])
def test_conversion_finds_the_network_and_keeps_conventions(
    kind: str, sampling: str, contents: dict[str, bytes], tiny: StateDict, tmp_path: Path
) -> None:
    source, target = tmp_path / "gcn.pt", tmp_path / "gcn.safetensors"
    source.write_bytes(contents[kind])
    metadata = convert_weights(source, target, dtype=torch.float32)
    weights = load_weights(target, model="gcnv2_tiny")
    assert weights.metadata == metadata
    assert metadata.sampling == sampling
    assert metadata.training["converted_from"] == {"file": "gcn.pt", "sha256": sha256_of(source)}
    assert_equal(weights.state_dict, tiny)


def test_conversion_takes_what_it_is_told(tiny: StateDict, tmp_path: Path) -> None:
    source, middle, target = tmp_path / "a.pt", tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    write_torch_1_0_archive(source, tiny)
    convert_weights(source, middle, model="gcnv2_tiny", licence="GPL-3.0")
    metadata = convert_weights(middle, target, sampling="half_pixel", score_thresholds={"320x240": 0.2})
    assert (metadata.sampling, metadata.score_thresholds, metadata.licence) == (
        "half_pixel",
        {"320x240": 0.2},
        "GPL-3.0",
    )
    assert metadata.training["converted_from"]["file"] == "a.pt"


def test_conversion_of_what_fits_no_network_says_so(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt fit none of the networks gcnv2_tiny, gcnv2, gcnv2_mobile"):
        convert_weights(tmp_path / "w.pt", tmp_path / "out.safetensors")


def test_an_unknown_network_is_said_to_be_one() -> None:
    with pytest.raises(NetworkError, match="there is no network 'gcnv3'"):
        load_weights("default", model="gcnv3")


def test_shipped_weights_load_and_others_are_said_not_to_be_shipped() -> None:
    for model in ("gcnv2_tiny", "gcnv2", "gcnv2_mobile"):
        if model in shipped_models():
            assert load_weights("default", model=model).metadata.model == model
        else:
            with pytest.raises(WeightsError, match=f"ships no weights for {model} yet.*train.*convert-weights"):
                load_weights("default", model=model)


def test_shipped_weights_are_checked_against_the_manifest(
    tiny: StateDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gcnv2_ros.weights import store

    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny, METADATA)
    manifest = {"schema_version": 1, "weights": {"gcnv2_tiny": {"file": path.name, "sha256": sha256_of(path)}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(store, "_data_folder", lambda: tmp_path)
    assert load_weights("default", model="gcnv2_tiny").path == path
    assert shipped_models() == ("gcnv2_tiny",)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged: SHA-256"):
        load_weights("default", model="gcnv2_tiny")
    path.unlink()
    with pytest.raises(WeightsError, match="missing; reinstall"):
        load_weights("default", model="gcnv2_tiny")


def test_buffers_in_memory_are_no_files() -> None:
    with pytest.raises(TypeError):
        load_weights(io.BytesIO(), model="gcnv2_tiny")  # type: ignore[arg-type]
