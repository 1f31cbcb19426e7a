from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
import torchvision

from slicemill.errors import ConfigError, ModelFileError
from slicemill.model.networks.unet import unet_resnet18
from slicemill.model.networks.weights import load_encoder


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
