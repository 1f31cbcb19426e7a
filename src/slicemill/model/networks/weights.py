"""Encoder weights from a torchvision state dict, named by its hash and never unpickled as code."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re

import torch
from torch import nn

from slicemill.errors import ConfigError, ModelFileError
from slicemill.io import storage
from slicemill.io.storage.uri import display
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: torchvision's rule for names: the first 8 or more hex digits of the file's SHA-256 before the ending.
_HASHED_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")


def load_encoder(encoder: nn.Module, uri: Uri) -> None:
    """Fill a torchvision encoder from the state dict file at `uri`.

    Raises ConfigError if the name carries no hash, ModelFileError if the hash differs, if the file holds more
    than tensors, or if they are of another network.
    """
    match = _HASHED_NAME.search(uri)
    if match is None:
        raise ConfigError(
            "--init-weights names no hash",
            expected="a name like resnet18-f37072fd.pth",
            found=uri.rsplit("/", 1)[-1],
        )
    data = storage.read_bytes(uri)
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(match.group(1)):
        raise ModelFileError(
            f"{display(uri)} is not what its name says",
            expected=f"SHA-256 that starts with {match.group(1)}",
            found=found,
            advice="Fetch it again.",
        )
    weights = _tensors(data, uri)
    # Old files lack the counters of batch norm, and the classifier's tensors have no place here.
    wanted = {
        name: own for name, own in encoder.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    for name, own in wanted.items():
        if name not in weights or weights[name].shape != own.shape:
            raise _foreign(
                uri, f"{name} of {tuple(weights[name].shape)}" if name in weights else f"no {name}"
            )
    encoder.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    log.info("encoder starts from %s", display(uri))


def _tensors(data: bytes, uri: Uri) -> dict[str, torch.Tensor]:
    try:
        value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise _foreign(uri, str(error).splitlines()[0]) from error
    if not isinstance(value, dict) or not all(isinstance(entry, torch.Tensor) for entry in value.values()):
        raise _foreign(uri, type(value).__name__)
    return value


def _foreign(uri: Uri, found: str) -> ModelFileError:
    return ModelFileError(
        f"{display(uri)} does not fit the encoder",
        expected="torchvision's state dict of the same network",
        found=found,
    )
