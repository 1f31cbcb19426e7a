"""What card and configuration decide before a scan is predicted, for every verb that predicts."""

from __future__ import annotations

import logging

from slicemill.config import PredictConfig, ScoreConfig, ServeConfig
from slicemill.core.evaluation.options import PredictionOptions
from slicemill.errors import ConfigError, ModelFileError
from slicemill.io.nifti import require_nibabel
from slicemill.io.run.card import Card
from slicemill.io.run.weights import check_weights, member_cards
from slicemill.io.scores.extras import Extras
from slicemill.io.storage.uri import display
from slicemill.model.networks.registry import LOCAL, architecture
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.types import Uri

log = logging.getLogger(__name__)


def check_model(model: Uri, card: Card) -> None:
    """Raise ModelFileError for weights that do not belong to the card, or a network of another release."""
    check_weights(model, card)
    members = member_cards(model, card).values() if card.members else (card,)
    for member in members:
        try:
            architecture(member.architecture, member.task)
        except ConfigError as error:
            raise ModelFileError(
                f"{display(model)} is of a network that this release does not have",
                expected=error.expected,
                found=f"{member.architecture} for {member.task}",
                advice="Score with the release that trained it.",
            ) from error


def score_settings(
    config: ScoreConfig | PredictConfig | ServeConfig, model: Uri, card: Card
) -> ScoreSettings:
    """How a scan is predicted: what the configuration leaves open the card decides."""
    options = PredictionOptions.from_names(card.options).overruled(
        flips=_overruling(config.tta, "flips"),
        smooth_slices=_overruling(config.smoothing, "slices"),
        largest_component=_overruling(config.components, "largest"),
        boxes=_overruling(config.boxes, "on"),
    )
    if options.boxes:
        _require_local(model, card)
    return ScoreSettings(
        model=model,
        model_id=card.model_id,
        threshold=config.threshold if config.threshold is not None else card.threshold,
        options=options,
        device=config.device,
        precision=config.precision,
        engine=config.engine,
        threads=1,
        batch_size=config.batch_size,
    )


def _require_local(model: Uri, card: Card) -> None:
    """Raise ConfigError for a network that has to see whole slices."""
    members = member_cards(model, card).values() if card.members else (card,)
    for member in members:
        if member.architecture not in LOCAL:
            raise ConfigError(
                "--boxes on is not for this model's network",
                expected=" or ".join(LOCAL),
                found=member.architecture,
                advice="Score without --boxes.",
            )


def _overruling(value: str, on: str) -> bool | None:
    return None if value == "auto" else value == on


def extras_of(config: ScoreConfig | PredictConfig, card: Card) -> Extras:
    """What is written beside the masks; raise ConfigError for a classifier, MachineError without nibabel."""
    outlines = isinstance(config, ScoreConfig) and config.outlines
    extras = Extras(config.nifti, config.probabilities, outlines)
    if extras.names and card.task == "classify":
        raise ConfigError(
            "a classifier gives no masks",
            expected="a model that segments, for --nifti and --outlines",
            found=card.task,
        )
    if extras.nifti:
        require_nibabel()
        if config.spacing is None:
            log.warning("the spacing is not known: voxels are 1 x 1 x 1 without a unit; see --spacing")
    return extras
