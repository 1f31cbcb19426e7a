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

#: Batch norms that do what their name says; what a subclass adds, such as timm's activation, must come after.
_BARE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

#: Largest difference that folding may make, as a share of the largest number that came out before.
TOLERANCE = 1e-3

_Pair = tuple[Any, _BatchNorm, Tensor]
_Replacement = tuple[nn.Module, nn.Module]


def fuse(network: nn.Module, example: Tensor) -> int:
    """Fold every batch norm into its convolution where that changes nothing; return how many were.

    `network` is in evaluation mode and changed in place; `example` is an input of it. One pass is watched: a
    pair is tried only if both ran once, the batch norm's input is the very output of the convolution,
    nothing else read that output, and nothing else used the convolution's weight. Then it proves itself: the
    pair on random numbers, and at last the whole network on the example, give what they gave before. So it
    works for networks that can't be traced, and leaves alone whatever it is not sure of.
    """
    names = {module: name for name, module in network.named_modules()}
    # Weights made in inference mode could not be used outside it.
    with torch.no_grad():
        with _Watch() as watch, _hooks(network, watch):
            watch.result = network(example)
        before = network(example)
        folded = {pair: new for pair in watch.pairs() if (new := _folded(pair)) is not None}
        for (convolution, norm, _), replacements in folded.items():
            _replace(network, names, (convolution, norm), replacements)
        if not _gives(network, example, before):
            for convolution, norm, _ in folded:
                _replace(network, names, (convolution, norm), (convolution, norm))
            return 0
    return len(folded)


def _replace(
    network: nn.Module, names: Mapping[nn.Module, str], places: _Replacement, modules: _Replacement
) -> None:
    for place, module in zip(places, modules, strict=True):
        network.set_submodule(names[place], module)


def _folded(pair: _Pair) -> _Replacement | None:
    """What stands for a convolution and its batch norm; None if it gives anything else than they do."""
    convolution, norm, example = pair
    # Zeros, and activations that are above zero throughout, would prove little.
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0), dtype=example.dtype)
    noise = noise.to(example.device)
    fused = fuse_conv_bn_eval(convolution, norm, isinstance(convolution, nn.ConvTranspose2d))
    activation = nn.Identity() if type(norm) in _BARE else getattr(norm, "act", None)
    if not isinstance(activation, nn.Module):
        return None
    return (fused, activation) if _alike(norm(convolution(noise)), activation(fused(noise))) else None


def _gives(network: nn.Module, example: Tensor, expected: object) -> bool:
    try:
        return _alike(expected, network(example))
    except Exception:  # Someone else's network may use a module in ways that its replacement doesn't know.
        return False


def _alike(before: object, after: object) -> bool:
    """Whether two results of a network are equal but for rounding."""
    pairs = list(zip(_tensors([before]), _tensors([after]), strict=True))
    return all(
        bool((first - other).abs().max() <= TOLERANCE * first.abs().max())
        for first, other in pairs
        if first.is_floating_point()
    )


class _Watch(TorchFunctionMode):
    """What one pass computed: how often each tensor was read, and what each module gave and took."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()
        self.calls: Counter[nn.Module] = Counter()
        # Tensors are kept until the pass is over: the id of one that is gone can come again.
        self.kept: list[Tensor] = []
        self.outputs: dict[int, tuple[nn.Module, Tensor, Tensor]] = {}
        self.norm_inputs: list[tuple[nn.Module, Tensor]] = []
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

    def pairs(self) -> list[_Pair]:
        """Convolutions, their batch norms and an input, where nothing that was seen forbids folding."""
        returned = {id(tensor) for tensor in _tensors([self.result])}
        pairs: list[_Pair] = []
        for norm, tensor in self.norm_inputs:
            if id(tensor) not in self.outputs or id(tensor) in returned:
                continue
            convolution, example, _ = self.outputs[id(tensor)]
            if (
                isinstance(norm, _BatchNorm)
                and not norm.training
                and norm.running_mean is not None
                and self.calls[convolution] == self.calls[norm] == 1
                and self.reads[id(tensor)] == self.reads[id(convolution.weight)] == 1
            ):
                pairs.append((convolution, norm, example))
        return pairs


@contextmanager
def _hooks(network: nn.Module, watch: _Watch) -> Iterator[None]:
    def note_output(module: nn.Module, inputs: Any, output: Any) -> None:
        watch.calls[module] += 1
        watch.outputs[id(output)] = (module, inputs[0], output)

    def note_input(module: nn.Module, inputs: Any) -> None:
        watch.calls[module] += 1
        watch.norm_inputs.append((module, inputs[0]))

    handles = []
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS):
            handles.append(module.register_forward_hook(note_output))
        elif isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(note_input))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(values: Any) -> list[Tensor]:
    """Every tensor in nested sequences and mappings."""
    tensors: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += _tensors(value)
        elif isinstance(value, dict):
            tensors += _tensors(value.values())
    return tensors
