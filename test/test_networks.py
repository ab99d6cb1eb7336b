# SPDX-License-Identifier: Apache-2.0
"""Networks: exact layers, shapes and parameter counts; the registry; MobileNetV2's weights in a gray network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gcnv2_ros.errors import GCNv2Error, MissingDependencyError
from gcnv2_ros.networks import GCNv2Mobile, NetworkError, create_network, network_names

# Layer: kernel, stride, padding, and output (channels, height, width) for a 320x240 image, computed by hand.
GCNV2_LAYERS = {
    "conv1": (4, 2, 1, (32, 120, 160)),
    "conv2": (4, 2, 1, (64, 60, 80)),
    "conv3_1": (3, 1, 1, (128, 60, 80)),
    "conv3_2": (4, 2, 1, (128, 30, 40)),
    "conv4_1": (3, 1, 1, (256, 30, 40)),
    "conv4_2": (4, 2, 1, (256, 15, 20)),
    "convF_1": (3, 1, 1, (256, 15, 20)),
    "convF_2": (1, 1, 0, (256, 15, 20)),
    "convD_1": (3, 1, 1, (256, 15, 20)),
    "convD_2": (1, 1, 0, (256, 15, 20)),
}
TINY_CHANNELS = {"conv1": 32, "conv2": 32, "conv3_1": 64, "conv3_2": 64, "conv4_1": 128, "conv4_2": 128}

# Output (channels, height, width) of MobileNetV2's blocks at output stride 16 for a 320x240 image.
MOBILE_BLOCKS = [
    (32, 120, 160),
    (16, 120, 160),
    *[(24, 60, 80)] * 2,
    *[(32, 30, 40)] * 3,
    *[(64, 15, 20)] * 4,
    *[(96, 15, 20)] * 3,
    *[(160, 15, 20)] * 3,
    (320, 15, 20),
]


def output_shapes(network: nn.Module, layers: dict[str, nn.Module], image: Tensor) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _module, _inputs, output, name=name: shapes.update({name: output.shape[1:]}))
    with torch.inference_mode():
        network(image)
    return {name: tuple(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "count"), [("gcnv2", 3_025_248), ("gcnv2_tiny", 1_159_104), ("gcnv2_mobile", 3_418_304)]
)
def test_networks_have_exactly_their_parameters(name: str, count: int) -> None:
    assert sum(parameter.numel() for parameter in create_network(name).parameters()) == count


@pytest.mark.parametrize("name", ["gcnv2", "gcnv2_tiny"])
def test_layers_have_the_published_shapes(name: str) -> None:
    network = create_network(name)
    layers = dict(network.named_children())
    expected = {
        layer: (
            kernel,
            stride,
            padding,
            (TINY_CHANNELS.get(layer, shape[0]) if name == "gcnv2_tiny" else shape[0], *shape[1:]),
        )
        for layer, (kernel, stride, padding, shape) in GCNV2_LAYERS.items()
    }
    shapes = output_shapes(network, layers, torch.zeros(1, 1, 240, 320))
    found = {
        layer: (module.kernel_size[0], module.stride[0], module.padding[0], shapes[layer])
        for layer, module in layers.items()
    }
    assert found == expected
    assert set(network.state_dict()) == {f"{layer}.{kind}" for layer in expected for kind in ("weight", "bias")}


def test_mobile_blocks_stop_striding_at_16() -> None:
    network = create_network("gcnv2_mobile").eval()
    blocks = {str(index): block for index, block in enumerate(network.features)}
    shapes = output_shapes(network, blocks, torch.zeros(1, 1, 240, 320))
    assert [shapes[str(index)] for index in range(len(blocks))] == MOBILE_BLOCKS
    dilations = [
        max(layer.dilation[0] for layer in block.modules() if isinstance(layer, nn.Conv2d)) for block in blocks.values()
    ]
    assert dilations == [1] * 15 + [2] * 3
    activations = {type(module) for module in network.modules() if not list(module.children())}
    assert activations == {nn.Conv2d, nn.BatchNorm2d, nn.ReLU6}


@pytest.mark.parametrize("name", network_names())
@pytest.mark.parametrize("size", [(32, 32), (48, 80)])
def test_every_network_gives_unit_descriptors_and_a_score_a_pixel(name: str, size: tuple[int, int]) -> None:
    network = create_network(name).eval()
    with torch.inference_mode():
        descriptors, scores = network(torch.rand(2, 1, *size))
    assert descriptors.shape == (2, 256, size[0] // 16, size[1] // 16)
    assert scores.shape == (2, 1, *size)
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(2, size[0] // 16, size[1] // 16))
    assert 0 < scores.min() <= scores.max() < 1


def test_images_of_a_batch_do_not_mix() -> None:
    network = create_network("gcnv2_tiny").eval()
    images = torch.rand(3, 1, 32, 48)
    with torch.inference_mode():
        together = network(images)
        alone = [network(images[i : i + 1]) for i in range(3)]
    for output in range(2):
        torch.testing.assert_close(
            together[output], torch.cat([single[output] for single in alone]), atol=1e-5, rtol=1e-4
        )


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(NetworkError, match=r"'gcn'.*gcnv2_tiny, gcnv2, gcnv2_mobile"):
        create_network("gcn")


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that registers networks, good and bad."""
    info = tmp_path / "thirdparty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[gcnv2_ros.networks]\n"
        "small = thirdparty_networks:Small\n"
        "gcnv2 = thirdparty_networks:Small\n"
        "absent = thirdparty_networks:Absent\n"
        "number = thirdparty_networks:NUMBER\n"
    )
    (tmp_path / "thirdparty_networks.py").write_text(
        "from gcnv2_ros.networks import GCNv2Tiny\n"
        "NUMBER = 3\n"
        "class Small(GCNv2Tiny):\n"
        "    name = 'small'\n"
        "    encoder_channels = (8, 8, 8, 8, 8, 8)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("third_party")
def test_other_packages_can_add_networks() -> None:
    assert network_names() == ("gcnv2_tiny", "gcnv2", "gcnv2_mobile", "absent", "number", "small")
    network = create_network("small")
    assert type(network).__name__ == "Small"
    assert network.conv4_2.out_channels == 8


@pytest.mark.usefixtures("third_party")
def test_other_packages_cannot_replace_the_packages_networks() -> None:
    assert type(create_network("gcnv2")).__name__ == "GCNv2"


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(("name", "message"), [("absent", "cannot be imported"), ("number", "must be a subclass")])
def test_a_bad_entry_point_names_the_package_that_has_it(name: str, message: str) -> None:
    with pytest.raises(NetworkError, match=f"thirdparty.*{message}"):
        create_network(name)


def torchvision_state_dict() -> dict[str, Tensor]:
    """A state dict with the names and shapes of torchvision.models.mobilenet_v2, random values."""
    generator = torch.Generator().manual_seed(1)
    entries: dict[str, Tensor] = {}

    def convolution(name: str, outputs: int, inputs: int, kernel: int) -> None:
        entries[f"{name}.weight"] = 0.2 * torch.randn(outputs, inputs, kernel, kernel, generator=generator)

    def normalisation(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean"):
            entries[f"{name}.{part}"] = torch.randn(channels, generator=generator)
        entries[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)
        entries[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("features.0.0", 32, 3, 3)
    normalisation("features.0.1", 32)
    inputs, index = 32, 1
    for expansion, outputs, repetitions in (
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ):
        for _ in range(repetitions):
            hidden, part, block = inputs * expansion, 0, f"features.{index}.conv"
            if expansion > 1:
                convolution(f"{block}.0.0", hidden, inputs, 1)
                normalisation(f"{block}.0.1", hidden)
                part = 1
            convolution(f"{block}.{part}.0", hidden, 1, 3)
            normalisation(f"{block}.{part}.1", hidden)
            convolution(f"{block}.{part + 1}", outputs, hidden, 1)
            normalisation(f"{block}.{part + 2}", outputs)
            inputs, index = outputs, index + 1
    convolution("features.18.0", 1280, 320, 1)
    normalisation("features.18.1", 1280)
    entries["classifier.1.weight"], entries["classifier.1.bias"] = torch.zeros(1000, 1280), torch.zeros(1000)
    return entries


def test_the_mobile_encoder_takes_torchvisions_weights() -> None:
    source = torchvision_state_dict()
    network = GCNv2Mobile()
    network.load_torchvision_encoder(source)
    changed = {"0.0.weight", "0.1.running_mean"}
    for name, value in network.features.state_dict().items():
        if name not in changed:
            torch.testing.assert_close(value, source[f"features.{name}"])
    assert torch.isfinite(network.eval()(torch.rand(1, 1, 64, 64))[1]).all()


def test_the_gray_first_layer_computes_what_the_colour_one_does_on_gray() -> None:
    source = torchvision_state_dict()
    network = GCNv2Mobile().eval()
    network.load_torchvision_encoder(source)
    gray = torch.rand(1, 1, 40, 48)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colour = (gray.expand(1, 3, 40, 48) - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    filtered = nn.functional.conv2d(colour, source["features.0.0.weight"], stride=2, padding=1)
    norm = {name: source[f"features.0.1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")}
    expected = nn.functional.relu6(nn.functional.batch_norm(filtered, **norm))
    with torch.inference_mode():
        found = network.features[0](gray)
    # Not the first row and column: they see the zero padding, which is black here and mean gray there.
    torch.testing.assert_close(found[..., 1:, 1:], expected[..., 1:, 1:], atol=1e-4, rtol=1e-4)
    assert 0.0 < float(np.mean((expected > 0).numpy())) < 1.0


def test_what_is_not_torchvisions_state_dict_is_refused() -> None:
    network = GCNv2Mobile()
    with pytest.raises(GCNv2Error, match=r"features\.0\.0\.weight is missing"):
        network.load_torchvision_encoder({})
    narrow = torchvision_state_dict()
    narrow["features.5.conv.2.weight"] = torch.zeros(16, 96, 1, 1)
    with pytest.raises(GCNv2Error, match=r"features\.5\.conv\.2\.weight has the shape \(16, 96, 1, 1\), expected"):
        network.load_torchvision_encoder(narrow)


def test_without_torchvision_its_own_weights_cannot_be_had() -> None:
    try:
        import torchvision  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match="pip install torchvision"):
            GCNv2Mobile().load_torchvision_encoder()
    else:
        pytest.skip("torchvision is installed here")
