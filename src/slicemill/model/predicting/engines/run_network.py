"""The network of a training run: built, filled with its weights and fused, when it is first needed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from slicemill.errors import ConfigError, ModelFileError
from slicemill.io.run.card import Card, SelfTest, load_card, member_uri, weights_uri
from slicemill.io.run.weights import check_weights, member_cards, read_weights
from slicemill.io.storage.uri import display
from slicemill.model.networks.registry import trusted_architecture
from slicemill.model.predicting.committee import Committee
from slicemill.model.predicting.fusion import fuse
from slicemill.model.predicting.self_test import probe_input
from slicemill.types import Uri

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunNetwork:
    """A run's network. An engine that has a file of its own does without building it."""

    run_uri: Uri
    card: Card

    @cached_property
    def fused(self) -> nn.Module:
        """The network on the CPU in evaluation mode, batch norms folded; see `load_network`."""
        network = load_network(self.run_uri, self.card).eval()
        count = fuse(network, probe_input(len(self.card.channels), self.card.input_size))
        log.info("model %s: %d batch norms folded", self.card.model_id, count)
        return network

    def check(self) -> None:
        """Raise ModelFileError for weights or a network that can't be trusted, as building it would."""
        check_weights(self.run_uri, self.card)
        cards = member_cards(self.run_uri, self.card).values() if self.card.members else (self.card,)
        for card in cards:
            _require_architecture(self.run_uri, card)

    def self_tests(self) -> list[SelfTest | None]:
        """The self-test of a model, or those of a committee's members in the order of its logits."""
        if not self.card.members:
            return [self.card.self_test]
        return [load_card(member_uri(self.run_uri, model_id)).self_test for model_id in self.card.members]


def load_network(run_uri: Uri, card: Card) -> nn.Module:
    """The network of a run, with its weights.

    Raises ModelFileError if weights and card can't be read, do not belong together, or name a network that
    this release does not have. Its self-test is not made.
    """
    if card.members:
        members = member_cards(run_uri, card)
        return Committee([load_network(home, member) for home, member in members.items()])
    uri, data = weights_uri(run_uri), read_weights(run_uri, card)
    try:
        weights = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ModelFileError(
            f"{display(uri)} is not a safetensors file",
            expected="the weights that train wrote",
            found=str(error),
            advice="Train again, or copy the whole run folder.",
        ) from error
    try:
        network = trusted_architecture(card.architecture, card.task).build(card.training)
    except ConfigError as error:
        raise _unbuildable(uri, card, error) from error
    return _fill(network, weights, uri)


def _require_architecture(uri: Uri, card: Card) -> None:
    try:
        trusted_architecture(card.architecture, card.task)
    except ConfigError as error:
        raise _unbuildable(uri, card, error) from error


def _unbuildable(uri: Uri, card: Card, error: ConfigError) -> ModelFileError:
    return ModelFileError(
        f"{display(uri)} is of a network that can't be built here",
        expected=error.expected,
        found=f"{card.architecture} for {card.task}",
        advice=error.advice or "Score with the release that trained it.",
    )


def _fill(network: nn.Module, weights: dict[str, torch.Tensor], uri: Uri) -> nn.Module:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise ModelFileError(
            f"{display(uri)} holds weights that are not finite",
            expected="finite numbers",
            found="NaN or infinity",
            advice="Train again.",
        )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(
            f"{display(uri)} does not fit its network",
            expected="the tensors of the card's architecture",
            found=str(error),
        ) from error
    return network
