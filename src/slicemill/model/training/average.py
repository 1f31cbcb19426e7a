"""The moving average of a network's weights, and its buffers as one piece of memory.

A step of training touches every weight and every buffer. One by one that is hundreds of small operations,
which a GPU spends its time on starting; together they are a few.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class FlatBuffers:
    """A network's buffers, laid into one tensor a kind of number; the network's own become views of it.

    That is the running statistics of batch norm, and how many batches they are of.
    """

    def __init__(self, network: nn.Module) -> None:
        self._flat: list[Tensor] = []
        self._saved: list[Tensor] = []
        places = [
            (module, name, buffer)
            for module in network.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        for kind in dict.fromkeys(buffer.dtype for _, _, buffer in places):
            self._lay([place for place in places if place[2].dtype == kind])

    def _lay(self, places: list[tuple[nn.Module, str, Tensor]]) -> None:
        flat = torch.cat([buffer.flatten() for _, _, buffer in places])
        self._flat.append(flat)
        self._saved.append(flat.clone())
        pieces = torch.split(flat, [buffer.numel() for _, _, buffer in places])
        for (module, name, buffer), piece in zip(places, pieces, strict=True):
            module._buffers[name] = piece.view(buffer.shape)

    @property
    def real(self) -> list[Tensor]:
        """The tensors of real numbers."""
        return [flat for flat in self._flat if flat.is_floating_point()]

    @torch.no_grad()
    def save(self) -> None:
        """Remember the values as they are."""
        for backup, flat in zip(self._saved, self._flat, strict=True):
            backup.copy_(flat)

    @torch.no_grad()
    def restore_unless(self, keep: Tensor) -> None:
        """Take the remembered values again, unless `keep`, one truth value on the device, says no."""
        for backup, flat in zip(self._saved, self._flat, strict=True):
            torch.where(keep, flat, backup, out=flat)


class WeightAverage:
    """The moving average of a network's weights (B. Polyak, A. Juditsky, SIAM J. Control 30, 1992).

    Short at first: the weights that a run begins with say nothing. `module` is the averaged network; its
    buffers are as old as the last `take_buffers`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(network)
        # Counted here and not on the device, so that no step waits for the number.
        self._decay, self._steps = decay, 0
        pairs = zip(self.module.parameters(), network.parameters(), strict=True)
        moving = [(ours, theirs) for ours, theirs in pairs if theirs.requires_grad]
        self._averages: list[Tensor] = [ours.detach() for ours, _ in moving]
        self._weights: list[Tensor] = [theirs.detach() for _, theirs in moving]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the network's weights; in a step that was lost they stood still."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._steps else 0.0
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        self._steps += 1

    @torch.no_grad()
    def take_buffers(self, network: nn.Module) -> None:
        """Take over the network's running statistics."""
        for ours, theirs in zip(self.module.buffers(), network.buffers(), strict=True):
            ours.copy_(theirs)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged network under `module.`, and the number of steps as `n_averaged`."""
        state = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        return {**state, "n_averaged": torch.tensor(self._steps)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        self._steps = int(state["n_averaged"])
        prefix = "module."
        self.module.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        )
