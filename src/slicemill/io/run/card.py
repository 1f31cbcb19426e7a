"""The model card: `model.json` beside `model.safetensors`, the contract between training and scoring."""

from __future__ import annotations

import dataclasses
import hashlib
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slicemill.core.scans.channels import ChannelMode
from slicemill.errors import InputError, ModelFileError
from slicemill.io import storage
from slicemill.io.run.card_fields import FIELDS
from slicemill.io.schema_version import require_schema_version
from slicemill.io.storage.uri import display, join
from slicemill.schemas import SCHEMA_VERSION
from slicemill.types import Uri

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"

#: Hex digits of the weights' SHA-256 that make a model id.
_ID_DIGITS = 16


@dataclass(frozen=True)
class SelfTest:
    """What the published network gave for a fixed input; see `slicemill.model.predicting.self_test`."""

    size: int
    """Rows and columns of the input, in pixels."""
    logits: tuple[float, ...]
    """Its output at a grid of points, in fp32."""


@dataclass(frozen=True)
class Card:
    """What a scorer must know of a model, and a reader of its scores wants to know."""

    task: str
    """segment or classify."""
    architecture: str
    """Name in the registry of networks."""
    channels: tuple[str, ...]
    """Channels of a stored slice, in order."""
    normalisation: str
    """Name of the rule in `slicemill.core.scans.normalise`."""
    input_size: int
    """Rows and columns of the network's input, in pixels."""
    threshold: float
    """Probability from which a pixel is tumour."""
    split: str
    """Name of the split."""
    split_hash: str
    """Hash of the split's patients and parts."""
    data_hash: str
    """Hash of the content of the scans that training and validation read."""
    metrics: Mapping[str, float | int | None]
    """Of the epoch whose weights these are."""
    versions: Mapping[str, str]
    """Of Python and the libraries that trained it."""
    training: Mapping[str, Any]
    """Settings of the training run."""
    weights_sha256: str
    """SHA-256 of model.safetensors, in hex digits; of a committee that of its members' together."""
    channel_mode: ChannelMode = "rgb"
    """How a scan's slices become input channels: a mode of `slicemill.core.scans.channels`."""
    training_profile: Mapping[str, Any] = field(default_factory=dict)
    """Intensities, sizes and missing sequences of the training scans (`slicemill.core.profiles.drift`)."""
    initial_weights: Mapping[str, str] = field(default_factory=dict)
    """Where the weights came from before training: source, SHA-256, licence and data, empty where unknown."""
    self_test: SelfTest | None = None
    """What its network must give again wherever it is loaded; None in cards of earlier releases."""
    options: tuple[str, ...] = ()
    """Options of scoring that did better on the validation part."""
    created: str = ""
    """When training ended, ISO 8601, UTC."""
    members: tuple[str, ...] = ()
    """Model ids of a committee's members; they lie in `member_uri`. None in a model of one network."""
    patients: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Hashes of the patients that it was trained (train) and chosen (val) on, by part; see
    `slicemill.core.evaluation.seen`. Empty in cards of earlier releases: then they are not known."""
    schema_version: int = SCHEMA_VERSION

    @property
    def model_id(self) -> str:
        """First 16 hex digits of the SHA-256 of model.safetensors; see `committee_hash`."""
        return self.weights_sha256[:_ID_DIGITS]

    def document(self) -> dict[str, Any]:
        """The content of the card's file."""
        return {**dataclasses.asdict(self), "model_id": self.model_id}


def sha256(data: bytes) -> str:
    """SHA-256 in hex digits."""
    return hashlib.sha256(data).hexdigest()


def committee_hash(members: Iterable[str]) -> str:
    """In place of its own weights' SHA-256, what a committee has: that of its members', in any order."""
    return sha256("\n".join(sorted(members)).encode())


def member_uri(run_uri: Uri, model_id: str) -> Uri:
    """Folder of a committee's member, a run as others are."""
    return join(run_uri, "members", model_id)


def weights_uri(run_uri: Uri) -> Uri:
    """The weights of a run."""
    return join(run_uri, WEIGHTS_FILE)


def card_uri(run_uri: Uri) -> Uri:
    """The card of a run."""
    return join(run_uri, CARD_FILE)


def save_card(run_uri: Uri, card: Card) -> None:
    """Write the card of a run."""
    storage.write_json(card_uri(run_uri), card.document())


def load_card(run_uri: Uri) -> Card:
    """Read the card of a run.

    Raises ModelFileError if there is none or it can't be trusted, LakeVersionError if it is of another
    schema version.
    """
    uri = card_uri(run_uri)
    try:
        value = storage.read_json(uri)
    except (InputError, RecursionError) as error:
        raise ModelFileError(
            f"{display(run_uri)} holds no readable model card",
            expected=f"a training run with {CARD_FILE} and {WEIGHTS_FILE}",
            found=error.found if isinstance(error, InputError) else "JSON nested without end",
            advice="Give --model the folder that train wrote with --out.",
        ) from error
    return _parse(uri, value)


def _parse(uri: Uri, value: object) -> Card:
    if not isinstance(value, dict):
        raise _broken(uri, "a JSON object", type(value).__name__)
    require_schema_version(
        value, display(uri), "Train again with this release, or score with the release that trained it."
    )
    names = {field.name for field in dataclasses.fields(Card)}
    # Cards of earlier releases lack them; their defaults say so.
    value = {name: default() for name, default in _ADDED_LATER.items()} | value
    odd_keys = sorted((names | {"model_id"}) ^ value.keys())
    if odd_keys:
        raise _broken(uri, "the keys of a model card", f"missing or unknown: {', '.join(odd_keys)}")
    for name, rule in FIELDS.items():
        if not rule.accepts(value[name]):
            raise _broken(uri, f"{name} as {rule.expected}", reprlib.repr(value[name]))
    test = value["self_test"]
    fields: dict[str, Any] = {
        name: tuple(value[name]) if isinstance(value[name], list) else value[name] for name in names
    }
    fields["self_test"] = None if test is None else SelfTest(test["size"], tuple(test["logits"]))
    card = Card(**fields)
    if value["model_id"] != card.model_id:
        raise _broken(uri, f"model_id {card.model_id}, as the weights' hash says", value["model_id"])
    return card


def _broken(uri: Uri, expected: object, value: object) -> ModelFileError:
    return ModelFileError(f"{display(uri)} is not a model card", expected=expected, found=value)


_ADDED_LATER: dict[str, Callable[[], Any]] = {
    "training_profile": dict,
    "initial_weights": dict,
    "self_test": lambda: None,
    "channel_mode": lambda: "rgb",
    "members": list,
    "patients": dict,
}
