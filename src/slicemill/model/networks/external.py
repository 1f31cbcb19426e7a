"""Networks and losses of other packages: package.module:function, or the name of an entry point.

A run may train any network that its user names. A model card is another matter: it comes from a bucket, and a
name in it must not decide what is imported. So a card's network is built only if an installed package
declares it as an entry point of the group `slicemill.networks`, or if `SLICEMILL_NETWORKS` names it.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from slicemill.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

#: Group of entry points: name of a network to module:function.
GROUP = "slicemill.networks"

#: Environment variable with networks that cards may name, comma-separated.
VARIABLE = "SLICEMILL_NETWORKS"

_NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


def declared_networks() -> dict[str, str]:
    """Names that installed packages declare, each with its module:function."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def external_function(name: str, kind: str) -> tuple[str, str] | None:
    """Module and function of a network or loss outside slicemill; None if the name can't be one.

    `kind`: network or loss, for the message. Raises ConfigError if its module is not installed here.
    """
    match = _NAME.fullmatch(declared_networks().get(name, name))
    if match is None:
        return None
    module, function = match.groups()
    try:
        installed = find_spec(module) is not None
    except ImportError:
        installed = False
    if not installed:
        raise ConfigError(
            f"the module of the {kind} {name} is not installed",
            expected=f"{module} on every machine that trains" + (" or scores" if kind == "network" else ""),
            found="no such module",
            advice="Install its package, or add its folder to PYTHONPATH.",
        )
    return module, function


def require_allowed(name: str) -> None:
    """Raise ConfigError unless a model card may name this network on this machine."""
    allowed = {text.strip() for text in os.environ.get(VARIABLE, "").split(",")}
    if name not in declared_networks() and name not in allowed:
        raise ConfigError(
            f"the model's network {name} is not one of slicemill's, and it is not allowed here",
            expected=f"a name in {VARIABLE}, or an entry point of the group {GROUP}",
            found=", ".join(sorted(allowed - {""})) or f"{VARIABLE} is empty",
            advice=f"If you trust it: {VARIABLE}={name}, on executors too.",
        )


def load_function(module: str, function: str) -> Any:
    """A function of an installed module; raise ConfigError if the module has none of that name."""
    value = getattr(import_module(module), function, None)
    if not callable(value):
        raise ConfigError(
            f"{module} has no function {function}",
            expected=f"a function {function} in {module}",
            found="nothing of that name" if value is None else type(value).__name__,
        )
    return value


def require_logits(network: nn.Module, name: str, task: str) -> None:
    """Raise ConfigError if a network does not give the logits that its task needs."""
    import torch

    size = 64
    network.eval()
    with torch.inference_mode():
        logits = network(torch.zeros(2, 3, size, size))
    network.train()
    expected = (2, 1, size, size) if task == "segment" else (2, 1)
    shape = tuple(getattr(logits, "shape", ()))
    if shape != expected:
        raise ConfigError(
            f"{name} can't be trained for --task {task}",
            expected=f"logits with axes {expected} for input with axes (2, 3, {size}, {size})",
            found=f"axes {shape}" if shape else type(logits).__name__,
        )
