"""Several trained models to one folder that `score` takes as a model: copies, and a card of their own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from slicemill.config import CommitteeConfig
from slicemill.core.evaluation.seen import joined_patients
from slicemill.core.profiles.drift import joined_profile
from slicemill.core.splits import refuse_leaky
from slicemill.errors import ConfigError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import Card, committee_hash, load_card, member_uri, save_card, weights_uri
from slicemill.io.storage.uri import canonical, display, join
from slicemill.types import Uri

#: In place of a split's name or hash where members were trained on several.
_SEVERAL = "several"

#: What members must share: one input is made for all.
_SHARED = ("task", "channels", "normalisation", "input_size", "channel_mode", "schema_version")


def run(config: CommitteeConfig) -> dict[str, Any]:
    """Copy the members, write the committee's card, and return the summary; no Spark session is needed.

    Raises ConfigError for members that can't sit together, ModelFileError for what is not a model.
    """
    out = canonical(config.out)
    runs = [run for uri in config.model for run in _runs(canonical(uri))]
    cards = {run: load_card(run) for run in runs}
    _check(cards)
    for run, card in cards.items():
        home = member_uri(out, card.model_id)
        storage.write_bytes(weights_uri(home), storage.read_bytes(weights_uri(run)))
        if storage.exists(Run(run).metrics):
            storage.write_bytes(Run(home).metrics, storage.read_bytes(Run(run).metrics))
        save_card(home, card)
    card = committee_card(list(cards.values()))
    save_card(out, card)
    return {
        "job": "committee",
        "status": "done",
        "members": len(card.members),
        "model_id": card.model_id,
        "threshold": card.threshold,
        "out": display(out),
    }


def _runs(uri: Uri) -> list[Uri]:
    """The run at a URI, or those of all folds of a cross-validation."""
    result = join(uri, "crossval.json")
    if not storage.exists(result):
        return [uri]
    return [join(uri, f"fold-{fold['fold']}", "run") for fold in storage.read_json(result)["folds"]]


def _check(cards: dict[Uri, Card]) -> None:
    for run, card in cards.items():
        refuse_leaky(card.split, display(run))
        if card.members:
            raise ConfigError("a committee has no committees in it", expected="runs", found=display(run))
    ids = [card.model_id for card in cards.values()]
    if len(set(ids)) < max(2, len(ids)):
        raise ConfigError("a committee has members", expected="two models or more", found=", ".join(ids))
    for name in _SHARED:
        values = {getattr(card, name) for card in cards.values()}
        if len(values) > 1:
            raise ConfigError(
                f"members of a committee differ in {name}",
                expected="one input for all",
                found=", ".join(map(str, sorted(values, key=str))),
            )


def committee_card(cards: Sequence[Card]) -> Card:
    """The card of a committee; its id does not depend on the members' order."""
    first = cards[0]
    names = Counter(card.architecture for card in cards)
    options = Counter(option for card in cards for option in card.options)
    return Card(
        task=first.task,
        architecture="committee of " + ", ".join(f"{count} {name}" for name, count in sorted(names.items())),
        channels=first.channels,
        normalisation=first.normalisation,
        input_size=first.input_size,
        threshold=float(np.mean([card.threshold for card in cards])),
        split=_one([card.split for card in cards]),
        split_hash=_one([card.split_hash for card in cards]),
        data_hash=hashlib.sha256("".join(sorted(card.data_hash for card in cards)).encode()).hexdigest(),
        metrics={},
        versions=first.versions,
        training={"device": _one([str(card.training.get("device")) for card in cards])},
        weights_sha256=committee_hash([card.weights_sha256 for card in cards]),
        channel_mode=first.channel_mode,
        training_profile=joined_profile([card.training_profile for card in cards]),
        options=tuple(sorted(name for name, count in options.items() if 2 * count > len(cards))),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        members=tuple(sorted(card.model_id for card in cards)),
        patients=joined_patients([card.patients for card in cards]),
    )


def _one(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else _SEVERAL
