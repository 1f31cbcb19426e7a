"""The weights of a run, read and checked against the card that vouches for them; no network is built."""

from __future__ import annotations

import json
import math
from typing import Any

from slicemill.errors import InputError, ModelFileError
from slicemill.io.run.card import Card, committee_hash, load_card, member_uri, sha256, weights_uri
from slicemill.io.storage.node_cache import read_known
from slicemill.io.storage.uri import display
from slicemill.types import Uri

#: Bytes before a safetensors file's header that say how long it is.
_PREFIX = 8
#: What a weights file holds beside parameters: the running statistics of batch norm, and integers, which are
#: counts and tables of places.
_STATISTICS = ("running_mean", "running_var")
_FLOATS = {"F64", "F32", "F16", "BF16"}


def read_weights(run_uri: Uri, card: Card) -> bytes:
    """The weights file of a run of one network.

    Raises ModelFileError if it can't be read, is not a safetensors file, or does not belong to the card.
    """
    uri = weights_uri(run_uri)
    try:
        data = read_known(uri, card.weights_sha256)
    except InputError as error:
        raise ModelFileError(
            f"{display(uri)} can't be read",
            expected="the weights that train wrote",
            found=error.found,
            advice="Copy the whole run folder.",
        ) from error
    if not _is_safetensors(data):
        raise ModelFileError(
            f"{display(uri)} is not a safetensors file",
            expected="the weights that train wrote",
            found=f"{len(data)} bytes",
            advice="Train again, or copy the whole run folder.",
        )
    if sha256(data) != card.weights_sha256:
        raise ModelFileError(
            f"{display(uri)} does not belong to its card",
            expected=f"SHA-256 {card.weights_sha256}",
            found=sha256(data),
            advice="Copy model.safetensors and model.json from the same run.",
        )
    return data


def member_cards(run_uri: Uri, card: Card) -> dict[Uri, Card]:
    """Cards of a committee's members by their runs; raise ModelFileError if they can't be its members."""
    cards = {home: load_card(home) for home in (member_uri(run_uri, name) for name in card.members)}
    if any(member.members for member in cards.values()):
        raise ModelFileError(
            f"{display(run_uri)} is a committee with a committee in it",
            expected="members of one network each",
            found=f"{len(cards)} members",
            advice="Make the committee again.",
        )
    joint = committee_hash(member.weights_sha256 for member in cards.values())
    if joint != card.weights_sha256:
        raise ModelFileError(
            f"{display(run_uri)} has other members than its card says",
            expected=card.weights_sha256,
            found=joint,
            advice="Make the committee again.",
        )
    return cards


def check_weights(run_uri: Uri, card: Card) -> None:
    """Raise ModelFileError for weights that can't be trusted, in the driver and without torch."""
    for home, member in (member_cards(run_uri, card) if card.members else {run_uri: card}).items():
        read_weights(home, member)


def count_parameters(run_uri: Uri, card: Card) -> int:
    """Numbers that training adjusts in a network, frozen ones counted, as its weights file says.

    So a driver needs neither torch nor the network's module. Raises as `read_weights` does.
    """
    tensors = _header(read_weights(run_uri, card)) or {}
    return sum(
        math.prod(tensor["shape"])
        for name, tensor in tensors.items()
        if tensor.get("dtype") in _FLOATS and not name.endswith(_STATISTICS)
    )


def _is_safetensors(data: bytes) -> bool:
    return _header(data) is not None


def _header(data: bytes) -> dict[str, Any] | None:
    """The header of a safetensors file: of each tensor type, shape and place; None for other files."""
    length = int.from_bytes(data[:_PREFIX], "little")
    try:
        header = json.loads(data[_PREFIX : _PREFIX + length]) if len(data) > _PREFIX else None
    except ValueError:
        return None
    return header if isinstance(header, dict) else None
