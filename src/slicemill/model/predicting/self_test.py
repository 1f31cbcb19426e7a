"""The self-test of a model: a fixed input, and what the network gave for it when it was published.

A network that is loaded on another device, by another engine, with its batch norms folded or in another
release must give it again within a tolerance. Otherwise it is not the model that was validated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from slicemill.errors import ModelFileError
from slicemill.io.run.card import SelfTest

#: Largest difference, as a share of the largest logit, by the arithmetic of the forward pass. fp32 on a GPU
#: multiplies in TF32, whose mantissa is that of fp16.
TOLERANCES = {"fp32": 0.002, "tf32": 0.02, "fp16": 0.02, "bf16": 0.1, "int8": 0.1}

#: Points of the output, a side, whose logits are kept.
_GRID = 8

#: Significant digits that are kept of a logit.
_DIGITS = 7


def probe_input(channels: int, size: int) -> Tensor:
    """The fixed input: float32, axes (1, C, size, size), in network units, the same on every machine.

    A bright disc on waves, different in each channel, so that no padding, flip or swapped channel goes
    unseen.
    """
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, size),) * 2, indexing="ij")
    planes = [
        np.sin((3 + channel) * rows + 2 * columns + channel)
        + np.cos((11 - channel) * columns - 5 * rows)
        + 2.0 * ((rows - 0.2) ** 2 + (columns + 0.1 * channel) ** 2 < 0.1)
        for channel in range(channels)
    ]
    return torch.from_numpy(np.stack(planes)[None].astype(np.float32))


def run_self_test(network: nn.Module, channels: int, size: int) -> SelfTest:
    """What a network, in evaluation mode on any device, gives for the fixed input.

    Raises ModelFileError for numbers that are not finite: such a network must not be published.
    """
    device = next(network.parameters()).device
    with torch.inference_mode():
        return self_test_of(lambda inputs: network(inputs.to(device)).float(), channels, size)


def self_test_of(logits_of: Callable[[Tensor], Tensor], channels: int, size: int) -> SelfTest:
    """What gives float32 logits, as a self-test; raises as `run_self_test` does."""
    logits = logits_of(probe_input(channels, size))
    if not torch.isfinite(logits).all():
        raise ModelFileError(
            "the network gives numbers that are not finite",
            expected="finite logits for the self-test's input",
            found="NaN or infinity",
            advice="Train again, at a lower --learning-rate.",
        )
    return SelfTest(size, tuple(float(f"{value:.{_DIGITS}g}") for value in _sampled(logits).tolist()))


def check_self_test(
    logits_of: Callable[[Tensor], Tensor],
    tests: Sequence[SelfTest | None],
    channels: int,
    tolerance: float,
    model: str,
) -> None:
    """Raise ModelFileError if a model gives anything else than when it was published.

    `logits_of` gives float32 logits for float32 input with axes (1, C, size, size), as scoring will call it.
    `tests`: the model's own, or one of each member of a committee, in the order of its logits; those that
    are None are not checked. `model` names it in the message.
    """
    stored_tests = [test for test in tests if test is not None]
    if not stored_tests:
        return
    outputs = torch.split(logits_of(probe_input(channels, stored_tests[0].size)), 1, dim=1)
    for test, logits in zip(tests, outputs, strict=True):
        if test is None:
            continue
        expected, sample = torch.tensor(test.logits), _sampled(logits)
        limit = tolerance * max(1.0, float(expected.abs().max()))
        difference = float((sample - expected).abs().max()) if sample.shape == expected.shape else np.inf
        if not difference <= limit:
            raise ModelFileError(
                f"{model} fails its self-test",
                expected=f"the logits that it gave when it was published, within {limit:.3g}",
                found=f"a difference of {difference:.3g}",
                advice="Score on another --device or with --precision fp32, or train again.",
            )


def tolerance(device: torch.device, precision: str) -> float:
    """The tolerance for a device's arithmetic."""
    return TOLERANCES["tf32" if device.type == "cuda" and precision == "fp32" else precision]


def _sampled(logits: Tensor) -> Tensor:
    """Logits at a grid of points, of a classifier all: float32 on the CPU, one axis."""
    if logits.ndim == 4:
        height, width = logits.shape[2:]
        step, first = (max(1, height // _GRID), max(1, width // _GRID)), height // (2 * _GRID)
        logits = logits[:, :, first :: step[0], first :: step[1]]
    return logits.flatten().cpu()
