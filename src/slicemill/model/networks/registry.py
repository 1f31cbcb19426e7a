"""Every network by its name: slicemill's own are a builder and a line here, others see `external`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slicemill.config.training import LOSSES, TrainConfig
from slicemill.errors import ConfigError
from slicemill.model.networks.external import external_function, load_function, require_allowed
from slicemill.model.networks.pretrained import LITE0, Pretrained

if TYPE_CHECKING:
    from torch import nn

#: Settings of a run that shape a network, where its architecture knows them.
_SHAPING = ("filters", "dropout")

_HERE = "slicemill.model.networks"


@dataclass(frozen=True)
class Architecture:
    """A network: where its builder is, and what it is for.

    `builder` is module and function, apart from the import itself: a driver that only checks a name does
    without torch. `encoder` names the submodule that takes a state dict of torchvision or timm by
    --init-weights; None if it has none. `options` are the settings that its builder takes. `pretrained` is
    where the encoder starts by default; None for random weights.
    """

    builder: tuple[str, str]
    task: str
    encoder: str | None = None
    options: tuple[str, ...] = ()
    pretrained: Pretrained | None = None

    def build(self, settings: Mapping[str, Any] | None = None) -> nn.Module:
        """A new network for a run's settings, its weights drawn by torch's global generator.

        Raises ConfigError for a builder that does not exist or does not take the options that are set.
        """
        builder = load_function(*self.builder)
        values = {name: (settings or {}).get(name) for name in self.options}
        options = {name: value for name, value in values.items() if value is not None}
        try:
            inspect.signature(builder).bind(**options)
        except TypeError as error:
            raise ConfigError(
                f"{':'.join(self.builder)} can't be built with these options",
                expected=f"a function that takes {', '.join(options) or 'no arguments'}",
                found=str(error),
            ) from error
        network: nn.Module = builder(**options)
        return network


ARCHITECTURES: dict[str, Architecture] = {
    "unet-lite0": Architecture((f"{_HERE}.unet", "unet_lite0"), "segment", "encoder", ("dropout",), LITE0),
    "unet-resnet18": Architecture((f"{_HERE}.resnets", "unet_resnet18"), "segment", "encoder", ("dropout",)),
    "unet-resnet50": Architecture((f"{_HERE}.resnets", "unet_resnet50"), "segment", "encoder", ("dropout",)),
    "monai-unet": Architecture((f"{_HERE}.monai_unets", "unet"), "segment", options=("filters", "dropout")),
    "monai-attention-unet": Architecture(
        (f"{_HERE}.monai_unets", "attention_unet"), "segment", options=("filters", "dropout")
    ),
    "monai-segresnet": Architecture(
        (f"{_HERE}.monai_unets", "segresnet"), "segment", options=("filters", "dropout")
    ),
    "monai-swin-unetr": Architecture(
        (f"{_HERE}.monai_unets", "swin_unetr"), "segment", options=("filters", "dropout")
    ),
    "lite0": Architecture((f"{_HERE}.classifier", "lite0"), "classify", "encoder", ("dropout",), LITE0),
    "resnet18": Architecture((f"{_HERE}.resnets", "resnet18"), "classify", "encoder", ("dropout",)),
    "resnet50": Architecture((f"{_HERE}.resnets", "resnet50"), "classify", "encoder", ("dropout",)),
}

#: Networks in which a pixel's logit depends on its surroundings alone, on no mean or size of the whole input:
#: for them a box of a slice will do.
LOCAL = ("unet-lite0", "unet-resnet18", "unet-resnet50")

#: The network of each task where none is named.
DEFAULT = {"segment": "unet-lite0", "classify": "lite0"}

#: Values of --init-weights that are no URI: the network's own pretrained weights, and random ones.
IMAGENET, RANDOM = "imagenet", "none"

#: Factor on the learning rate of an encoder that --init-weights filled: its weights are worth keeping.
PRETRAINED_RATE = 0.3


def initial_weights(config: TrainConfig) -> str:
    """Where a run's encoder starts: imagenet, none or a URI; by default what comes with its network."""
    entry = architecture(config.model or DEFAULT[config.task], config.task)
    if config.init_from is not None:
        return RANDOM
    return config.init_weights or (IMAGENET if entry.pretrained else RANDOM)


def encoder_rate(config: TrainConfig) -> float:
    """Factor on the learning rate of a run's encoder; by default lower for one that is not random."""
    if config.encoder_rate is not None:
        return config.encoder_rate
    return 1.0 if initial_weights(config) == RANDOM else PRETRAINED_RATE


def architecture(name: str, task: str | None = None) -> Architecture:
    """The entry of `name`; raise ConfigError if there is none, or if it does not do `task`.

    A network of another package does what its user says: `segment` where no task is named.
    """
    names = [candidate for candidate, entry in ARCHITECTURES.items() if task in (None, entry.task)]
    if name in names:
        return ARCHITECTURES[name]
    builder = None if name in ARCHITECTURES else external_function(name, "network")
    if builder is None:
        raise ConfigError(
            "--model is not a network of this release" + (f" for --task {task}" if task else ""),
            expected="one of " + ", ".join([*names, "package.module:function"]),
            found=name,
        )
    return Architecture(builder, task or "segment", options=_SHAPING)


def trusted_architecture(name: str, task: str) -> Architecture:
    """The entry of a name that a model card holds; raise ConfigError if it is not allowed here."""
    if name not in ARCHITECTURES:
        require_allowed(name)
    return architecture(name, task)


def takes(name: str, task: str, option: str) -> bool:
    """Whether a network has a use for a setting; those that are not about networks all have."""
    return option not in _SHAPING or option in architecture(name, task).options


def check_settings(config: TrainConfig) -> None:
    """Raise ConfigError for a network that is not there, or for settings that it has no use for."""
    name = config.model or DEFAULT[config.task]
    entry = architecture(name, config.task)
    for option in _SHAPING:
        value = getattr(config, option)
        if value is not None and option not in entry.options:
            raise ConfigError(
                f"{name} has no --{option}",
                expected=", ".join(entry.options) or "none",
                found=value,
            )
    if config.loss not in LOSSES:
        external_function(config.loss, "loss")
    start = initial_weights(config)
    for flag, present in (
        ("--init-weights", start != RANDOM),
        ("--freeze-encoder", config.freeze_encoder),
    ):
        if present and entry.encoder is None:
            raise ConfigError(
                f"{name} has no encoder, which {flag} is about",
                expected=", ".join(candidate for candidate, other in ARCHITECTURES.items() if other.encoder),
                found=name,
            )
    if start == IMAGENET:
        if entry.pretrained is None:
            owners = ", ".join(candidate for candidate, other in ARCHITECTURES.items() if other.pretrained)
            raise ConfigError(
                f"slicemill has no ImageNet weights for {name}",
                expected=f"one of {owners}, or the URI of a state dict",
                found=f"--init-weights {IMAGENET}",
            )
        entry.pretrained.path()
