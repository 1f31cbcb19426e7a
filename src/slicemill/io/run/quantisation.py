"""A run's network in int8, beside its weights, and what that cost on scans that were held back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slicemill.errors import ModelFileError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import Card, SelfTest, sha256
from slicemill.io.storage.fence import Fence
from slicemill.io.storage.uri import display
from slicemill.schemas import SCHEMA_VERSION
from slicemill.types import Uri

_ADVICE = "Run slicemill quantise for this model, or score with another --precision."


@dataclass(frozen=True)
class Quantisation:
    """What `slicemill quantise` measured, and how to tell that its file still gives it."""

    model_id: str
    """The model whose weights were quantised."""
    file_sha256: str
    """SHA-256 of model.int8.onnx, in hex digits."""
    split: str
    part: str
    """Part of the split that calibrated and judged."""
    scans: int
    """Scans of it that have a Dice."""
    dice: float
    """Their mean Dice in fp32."""
    dice_int8: float
    largest_loss: float
    """Dice in fp32 minus int8, of the scan that lost most."""
    self_test: SelfTest
    """What the file gives for the fixed input, on the machine that made it."""
    versions: Mapping[str, str]


def save_quantisation(fence: Fence, run: Uri, model: bytes, quantisation: Quantisation) -> None:
    """Write the file and then what is known of it, which vouches for it by its hash."""
    document = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(quantisation)}
    fence.write(Run(run).quantised, model)
    fence.write(Run(run).quantisation, storage.json_bytes(document))


def require_quantisation(run: Uri, card: Card) -> Quantisation:
    """What is known of a run's int8 file; raise ModelFileError if it has none, or one of other weights."""
    uri = Run(run).quantisation
    if not storage.exists(uri):
        raise ModelFileError(
            f"model {card.model_id} has not been quantised",
            expected=display(uri),
            found="none",
            advice=_ADVICE,
        )
    quantisation = _parsed(storage.read_json(uri), uri)
    if quantisation.model_id != card.model_id:
        raise ModelFileError(
            f"{display(uri)} is of other weights",
            expected=f"model {card.model_id}",
            found=quantisation.model_id,
            advice=_ADVICE,
        )
    return quantisation


def read_quantised(run: Uri, card: Card) -> tuple[bytes, Quantisation]:
    """A run's network in int8 as an ONNX file; raises as `require_quantisation`, and for another file."""
    quantisation = require_quantisation(run, card)
    data, uri = storage.read_bytes(Run(run).quantised), Run(run).quantised
    if sha256(data) != quantisation.file_sha256:
        raise ModelFileError(
            f"{display(uri)} is not the file that was judged",
            expected=f"SHA-256 {quantisation.file_sha256}",
            found=sha256(data),
            advice=_ADVICE,
        )
    return data, quantisation


def _parsed(value: Any, uri: Uri) -> Quantisation:
    try:
        if value["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {value['schema_version']}")
        test = value["self_test"]
        fields = {field.name: value[field.name] for field in dataclasses.fields(Quantisation)}
        fields["self_test"] = SelfTest(int(test["size"]), tuple(map(float, test["logits"])))
        return Quantisation(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{display(uri)} does not say what quantise writes",
            expected=f"its keys, in schema version {SCHEMA_VERSION}",
            found=f"{type(error).__name__}: {error}",
            advice=_ADVICE,
        ) from error
