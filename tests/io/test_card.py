from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from slicemill.errors import LakeVersionError, ModelFileError
from slicemill.io.run.card import Card, card_uri, load_card, save_card, sha256
from slicemill.io.storage.uri import canonical, local_path

CARD = Card(
    task="segment",
    architecture="unet-resnet18",
    channels=("pre-contrast", "FLAIR", "post-contrast"),
    normalisation="p10-p99-zscore-v1",
    input_size=128,
    threshold=0.5,
    split="demo",
    split_hash="ab",
    data_hash="cd",
    training_profile={"scans": 3, "channels": []},
    metrics={"epoch": 3, "val_dice": None},
    versions={"torch": "2.11.0"},
    training={"seed": 0},
    weights_sha256=sha256(b"weights"),
    created="2026-11-21T09:45:47+00:00",
)


@pytest.fixture
def run(tmp_path: Path) -> str:
    uri = canonical(str(tmp_path / "run"))
    save_card(uri, CARD)
    return uri


def _edit(run: str, **changes: object) -> None:
    path = local_path(card_uri(run))
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: entry for name, entry in value.items() if entry is not ...}))


def test_a_card_comes_back_as_it_was(run: str) -> None:
    card = load_card(run)

    assert card == CARD
    assert card.model_id == CARD.weights_sha256[:16]
    assert json.loads(local_path(card_uri(run)).read_text())["model_id"] == card.model_id


def test_a_folder_without_a_card(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no readable model card.*--model"):
        load_card(canonical(str(tmp_path)))


def test_a_card_that_is_no_json(run: str) -> None:
    local_path(card_uri(run)).write_bytes(b"\x00weights")

    with pytest.raises(ModelFileError, match="no readable model card"):
        load_card(run)


def test_another_schema_version(run: str) -> None:
    _edit(run, schema_version=99)

    with pytest.raises(LakeVersionError, match="expected 1; found 99"):
        load_card(run)


def test_a_card_of_before_training_profiles_has_none(run: str) -> None:
    _edit(run, training_profile=...)

    assert load_card(run) == dataclasses.replace(CARD, training_profile={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": ...}, "missing or unknown: threshold"),
        ({"surprise": 1}, "missing or unknown: surprise"),
        ({"threshold": "0.5"}, "threshold as a number"),
        ({"threshold": True}, "threshold as a number"),
        ({"input_size": 1.5}, "input_size as a whole number"),
        ({"channels": "FLAIR"}, "channels as a list"),
        ({"model_id": "0" * 16}, "as the weights' hash says"),
    ],
)
def test_a_card_that_is_not_one(run: str, changes: dict[str, object], message: str) -> None:
    _edit(run, **changes)

    with pytest.raises(ModelFileError, match=message):
        load_card(run)


def test_a_card_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CARD.threshold = 0.4  # type: ignore[misc]
