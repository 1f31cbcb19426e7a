from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slicemill.errors import LakeVersionError, ModelFileError
from slicemill.io.run.card import Card, SelfTest, card_uri, load_card, save_card, sha256
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
    training_profile={"scans": 3, "sizes": [], "missing_sequences": {}, "channels": []},
    initial_weights={"source": "none"},
    self_test=SelfTest(128, (0.5, -1.25)),
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


def test_a_card_of_an_earlier_release_lacks_what_came_later(run: str) -> None:
    _edit(run, training_profile=..., initial_weights=..., self_test=...)

    assert load_card(run) == dataclasses.replace(
        CARD, training_profile={}, initial_weights={}, self_test=None
    )


_PROFILE = {"scans": 3, "sizes": [[256, 256]], "missing_sequences": {}, "channels": [{"mean": [1.0, 2.0]}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": ...}, "missing or unknown: threshold"),
        ({"surprise": 1}, "missing or unknown: surprise"),
        ({"threshold": "0.5"}, "threshold as a number between 0 and 1"),
        ({"threshold": True}, "threshold as a number"),
        ({"threshold": 1e9}, "threshold as a number between 0 and 1"),
        ({"threshold": -1}, "threshold as a number between 0 and 1"),
        ({"threshold": float("nan")}, "threshold as a number between 0 and 1"),
        ({"task": "regress"}, "task as one of segment, classify"),
        ({"task": ["segment"]}, "task as one of segment, classify"),
        ({"normalisation": "minmax"}, "normalisation as one of p10-p99-zscore-v1"),
        ({"input_size": 1.5}, "input_size as a whole number, a multiple of 32"),
        ({"input_size": 0}, "input_size as a whole number"),
        ({"input_size": 100}, "input_size as a whole number"),
        ({"input_size": 10**9}, "input_size as a whole number"),
        ({"channels": "FLAIR"}, "channels as pre-contrast, FLAIR, post-contrast, in this order"),
        ({"channels": ["FLAIR", "pre-contrast", "post-contrast"]}, "channels as .* in this order"),
        ({"channel_mode": "gray"}, "channel_mode as one of auto, rgb, flair25d"),
        ({"options": ["sharpen"]}, "options as a list of flips"),
        ({"options": ["flips", "flips"]}, "options as a list"),
        ({"training": {"filters": 200000}}, "training as an object of settings, filters 1 to 256"),
        ({"training": {"filters": "many"}}, "training as"),
        ({"training": {"dropout": 1.0}}, "training as"),
        ({"training": {"lake": {"deep": {}}}}, "training as"),
        ({"metrics": {"val_dice": float("inf")}}, "metrics as"),
        ({"versions": {"torch": 2}}, "versions as"),
        ({"training_profile": {"channels": 7}}, "training_profile as"),
        ({"training_profile": _PROFILE | {"channels": [{"mean": [1.0]}]}}, "training_profile as"),
        ({"training_profile": _PROFILE | {"scans": -1}}, "training_profile as"),
        ({"weights_sha256": "ab"}, "weights_sha256 as 64 hex digits"),
        ({"members": ["../../elsewhere"]}, "members as a list of at most 100 model ids"),
        ({"members": ["0" * 16] * 2}, "members as a list"),
        ({"architecture": "x" * 5000}, "architecture as text"),
        ({"patients": {"train": ["P1"]}}, "patients as an object of lists of hashes"),
        ({"self_test": {"size": 128}}, "self_test as"),
        ({"self_test": {"size": 128, "logits": []}}, "self_test as"),
        ({"self_test": {"size": 10**6, "logits": [0.0]}}, "self_test as"),
        ({"self_test": {"size": 128, "logits": [float("nan")]}}, "self_test as"),
        ({"model_id": "0" * 16}, "as the weights' hash says"),
    ],
)
def test_a_card_that_is_not_one(run: str, changes: dict[str, object], message: str) -> None:
    _edit(run, **changes)

    with pytest.raises(ModelFileError, match=message) as caught:
        load_card(run)

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 500 + "]" * 500])
def test_a_card_that_is_nested_without_end(run: str, text: str) -> None:
    local_path(card_uri(run)).write_text(text)

    with pytest.raises(ModelFileError, match=r"model card"):
        load_card(run)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from([field.name for field in dataclasses.fields(Card)]), value=_JSON)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_a_field_holds_it_is_a_card_or_refused_in_one_line(
    run: str, name: str, value: object
) -> None:
    save_card(run, CARD)
    _edit(run, **{name: value})

    with contextlib.suppress(ModelFileError, LakeVersionError):
        assert getattr(load_card(run), name) is not None or name == "self_test"


def test_a_card_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CARD.threshold = 0.4  # type: ignore[misc]
