"""Encoder weights from a state dict file, named by its hash and never unpickled as code."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slicemill.errors import ConfigError, ModelFileError
from slicemill.io import storage
from slicemill.io.storage.uri import canonical, display, stored_uri
from slicemill.model.networks.registry import IMAGENET, RANDOM, Architecture
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: torchvision's rule for names: the first 8 or more hex digits of the file's SHA-256 before the ending.
_HASHED_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class InitialWeights:
    """Where a network's weights came from before training, for the model card."""

    source: str
    """URI of a file or a run, name and version of a package, or none for random weights."""
    sha256: str = ""
    """SHA-256 of the file, in hex digits; empty for random weights."""
    licence: str = ""
    """SPDX identifier, where it is known."""
    trained_on: str = ""
    """Data that the weights were trained on, where it is known."""


def initialise_encoder(network: nn.Module, entry: Architecture, init_weights: str) -> InitialWeights:
    """Fill a new network's encoder as --init-weights says, and tell where the weights came from.

    `init_weights`: imagenet, none or a URI. Raises ConfigError or ModelFileError as `load_encoder` does,
    ConfigError too if the package of the ImageNet weights is not installed.
    """
    if init_weights == RANDOM or entry.encoder is None:
        return InitialWeights(RANDOM)
    encoder = network.get_submodule(entry.encoder)
    if init_weights == IMAGENET and entry.pretrained is not None:
        package = entry.pretrained
        digest = load_encoder(encoder, canonical(str(package.path())))
        return InitialWeights(package.distribution, digest, package.licence, package.trained_on)
    uri = stored_uri(init_weights)
    return InitialWeights(display(uri), load_encoder(encoder, uri))


def load_encoder(encoder: nn.Module, uri: Uri) -> str:
    """Fill an encoder of torchvision or timm from the state dict file at `uri`; returns its SHA-256.

    The file has the encoder's names, or other names for the same tensors in the same order. Raises
    ConfigError if its name carries no hash, ModelFileError if the hash differs, if the file holds more than
    tensors, or if they are of another network.
    """
    match = _HASHED_NAME.search(uri)
    if match is None:
        raise ConfigError(
            "--init-weights names no hash",
            expected="a name like resnet18-f37072fd.pth",
            found=uri.rsplit("/", 1)[-1],
        )
    data = storage.read_bytes(uri)
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(match.group(1)):
        raise ModelFileError(
            f"{display(uri)} is not what its name says",
            expected=f"SHA-256 that starts with {match.group(1)}",
            found=digest,
            advice="Fetch it again.",
        )
    own = encoder.state_dict()
    weights = _tensors(data, uri)
    weights = _renamed(own, weights) or weights
    # Old files lack the counters of batch norm, and the classifier's tensors have no place here.
    tensors = {name: tensor for name, tensor in own.items() if not name.endswith(_COUNTER)}
    for name, tensor in tensors.items():
        if name not in weights or weights[name].shape != tensor.shape:
            raise _foreign(
                uri, f"{name} of {tuple(weights[name].shape)}" if name in weights else f"no {name}"
            )
    encoder.load_state_dict({name: weights[name] for name in tensors}, strict=False)
    log.info("encoder starts from %s", display(uri))
    return digest


def _renamed(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The file's tensors by the encoder's names; None unless kind and shape agree, one after the other.

    The classifier, which the encoder lacks, comes last in a file.
    """
    if len(weights) < len(own) or not own.keys().isdisjoint(weights):
        return None
    renamed = {}
    for (name, tensor), (other, value) in zip(own.items(), weights.items(), strict=False):
        if name.rpartition(".")[2] != other.rpartition(".")[2] or tensor.shape != value.shape:
            return None
        renamed[name] = value
    return renamed


def _tensors(data: bytes, uri: Uri) -> dict[str, Tensor]:
    try:
        value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise _foreign(uri, str(error).splitlines()[0]) from error
    if not isinstance(value, dict) or not all(isinstance(entry, Tensor) for entry in value.values()):
        raise _foreign(uri, type(value).__name__)
    return value


def _foreign(uri: Uri, difference: str) -> ModelFileError:
    return ModelFileError(
        f"{display(uri)} does not fit the encoder",
        expected="torchvision's or timm's state dict of the same network",
        found=difference,
    )
