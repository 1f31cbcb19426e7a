"""Every network by its name. A new one is one file with a builder, and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from slicemill.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A network: where its builder is, and what it is for.

    `builder` is module and function, apart from the import itself: a driver that only checks a name does
    without torch. `encoder` names the submodule that takes a torchvision state dict by --init-weights; None
    if it has none.
    """

    builder: tuple[str, str]
    task: str
    encoder: str | None = None

    def build(self) -> nn.Module:
        """A new network, its weights drawn by torch's global generator."""
        module, function = self.builder
        network: nn.Module = getattr(import_module(module), function)()
        return network


ARCHITECTURES: dict[str, Architecture] = {
    "unet-resnet18": Architecture(("slicemill.model.unet", "unet_resnet18"), "segment", "encoder"),
}


def architecture(name: str, task: str | None = None) -> Architecture:
    """The entry of `name`; raise ConfigError if there is none, or if it does not do `task`."""
    names = [known for known, entry in ARCHITECTURES.items() if task in (None, entry.task)]
    if name not in names:
        raise ConfigError(
            "--model is no network of this release" + (f" for --task {task}" if task else ""),
            expected="one of " + ", ".join(names) if names else "another --task",
            found=name,
        )
    return ARCHITECTURES[name]
