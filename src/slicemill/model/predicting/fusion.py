"""Batch normalisation folded into the convolution before it, for networks that are only run forward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def fuse(network: nn.Module, example: Tensor) -> int:
    """Fold every batch norm into its convolution where that changes nothing; return how many were.

    `network` is in evaluation mode and changed in place; `example` is an input of it. One pass is watched: a
    pair is folded only if both ran once, the batch norm's input is the very output of the convolution,
    nothing else read that output, and nothing else used the convolution's weight. So it works for networks
    that can't be traced, and leaves alone whatever it is not sure of.
    """
    with torch.inference_mode(), _Watch() as watch, _hooks(network, watch):
        watch.result = network(example)
    names = {module: name for name, module in network.named_modules()}
    pairs = watch.pairs()
    for convolution, norm in pairs:
        fused = fuse_conv_bn_eval(convolution, norm, isinstance(convolution, nn.ConvTranspose2d))
        network.set_submodule(names[convolution], fused)
        network.set_submodule(names[norm], nn.Identity())
    return len(pairs)


class _Watch(TorchFunctionMode):
    """What one pass computed: how often each tensor was read, and what each module gave and took."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()
        self.calls: Counter[nn.Module] = Counter()
        # Tensors are kept until the pass is over: the id of one that is gone can come again.
        self.kept: list[Tensor] = []
        self.given: dict[int, tuple[nn.Module, Tensor]] = {}
        self.taken: list[tuple[nn.Module, Tensor]] = []
        self.result: object = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        computed = _tensors([result])
        self.kept += computed
        # Asking for a shape or a number of axes reads nothing.
        if computed:
            self.reads.update(id(tensor) for tensor in _tensors([args, *(kwargs or {}).values()]))
        return result

    def pairs(self) -> list[tuple[Any, _BatchNorm]]:
        """Convolutions and their batch norms that can be folded."""
        returned = {id(tensor) for tensor in _tensors([self.result])}
        found = []
        for norm, tensor in self.taken:
            convolution, _ = self.given.get(id(tensor), (None, None))
            if (
                isinstance(convolution, _CONVOLUTIONS)
                and isinstance(norm, _BatchNorm)
                and not norm.training
                and norm.running_mean is not None
                and self.calls[convolution] == self.calls[norm] == 1
                and self.reads[id(tensor)] == self.reads[id(convolution.weight)] == 1
                and id(tensor) not in returned
            ):
                found.append((convolution, norm))
        return found


@contextmanager
def _hooks(network: nn.Module, watch: _Watch) -> Iterator[None]:
    def gave(module: nn.Module, inputs: Any, output: Any) -> None:
        watch.calls[module] += 1
        watch.given[id(output)] = (module, output)

    def took(module: nn.Module, inputs: Any) -> None:
        watch.calls[module] += 1
        watch.taken.append((module, inputs[0]))

    handles = []
    for module in network.modules():
        # A subclass may do more than its name says.
        if type(module) in _CONVOLUTIONS:
            handles.append(module.register_forward_hook(gave))
        elif isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(took))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(values: Any) -> list[Tensor]:
    """Every tensor in nested sequences and mappings."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
        elif isinstance(value, dict):
            found += _tensors(value.values())
    return found
