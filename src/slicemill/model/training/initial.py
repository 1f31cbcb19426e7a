"""The network that a run starts with, and where its weights come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from slicemill.core.evaluation.seen import joined_patients
from slicemill.core.splits import refuse_leaky
from slicemill.core.training.plan import TrainPlan
from slicemill.errors import ConfigError
from slicemill.io.run.card import Card, load_card
from slicemill.io.storage.uri import display, stored_uri
from slicemill.model.networks.external import require_logits
from slicemill.model.networks.registry import ARCHITECTURES, architecture, initial_weights
from slicemill.model.networks.weights import InitialWeights, initialise_encoder
from slicemill.model.predicting.engines.run_network import load_network


@dataclass(frozen=True)
class InitialNetwork:
    """A network before its first step."""

    network: nn.Module
    origin: InitialWeights
    patients: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Hashes, by part, of the patients that its weights or this run have seen; empty if not known."""


def initial_network(plan: TrainPlan) -> InitialNetwork:
    """A new network for the plan, filled as --init-weights or --init-from says.

    Raises ConfigError for a network that does not fit its task or a run that does not fit the network,
    ModelFileError for weights that can't be read.
    """
    settings = plan.settings
    entry = architecture(plan.network, settings.task)
    network = entry.build(dataclasses.asdict(settings))
    if plan.network not in ARCHITECTURES:
        require_logits(network, plan.network, settings.task)
    if settings.init_from is None:
        origin = initialise_encoder(network, entry, initial_weights(settings))
        return InitialNetwork(network, origin, plan.patients)
    base = stored_uri(settings.init_from)
    card = load_card(base)
    _require_fit(plan, card, display(base))
    network.load_state_dict(load_network(base, card).state_dict())
    origin = InitialWeights(display(base), card.weights_sha256, trained_on=f"scans {card.data_hash}")
    return InitialNetwork(network, origin, joined_patients([plan.patients, card.patients]))


def _require_fit(plan: TrainPlan, card: Card, base: str) -> None:
    refuse_leaky(card.split, base)
    expected = f"{plan.network} for {plan.settings.task}"
    if (card.architecture, card.task) != (plan.network, plan.settings.task):
        raise ConfigError(
            "--init-from is a run of another network",
            expected=expected,
            found=f"{card.architecture} for {card.task}",
            advice="Give --model and --task as that run had them.",
        )
    for option in architecture(plan.network, plan.settings.task).options:
        own, other = getattr(plan.settings, option), card.training.get(option)
        if option == "filters" and own != other:
            raise ConfigError(
                "--init-from is a network of other --filters", expected=own or "none", found=other or "none"
            )
    trained = set(card.patients.get("train", ()))
    if trained & set(plan.patients.get("val", ())):
        raise ConfigError(
            "--init-from was trained on patients of this run's validation part",
            expected="a validation part that it has not seen",
            found=f"{len(trained & set(plan.patients['val']))} patients",
            advice="Make a split whose val part holds other patients.",
        )
