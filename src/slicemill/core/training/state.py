"""Where a run stands between two epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slicemill.core.training.records import EpochLine
from slicemill.core.training.schedule import InputSizes
from slicemill.core.training.selection import leading_epoch, published_epoch


@dataclass(frozen=True)
class RunState:
    """Where a run stands after an epoch; without arguments, before the first."""

    epochs_done: int = 0
    progress: float = 0.0
    """Of the schedule, 0 to 1; see `slicemill.core.training.schedule`."""
    seconds: float = 0.0
    """Time that the run has taken, over all its launches."""
    history: tuple[EpochLine, ...] = ()
    """The lines of metrics.jsonl."""
    sizes: InputSizes | None = None
    """Once they are settled."""

    @property
    def leading_epoch(self) -> int:
        """Number of the best epoch so far, 0 before the first."""
        return leading_epoch(self.history)

    @property
    def published(self) -> EpochLine:
        """The line of the epoch that would be published now. Raises IndexError before the first."""
        return self.history[published_epoch(self.history) - 1]

    def to_json(self) -> dict[str, Any]:
        """The state as a checkpoint has it."""
        history = [line.to_json() for line in self.history]
        sizes = None if self.sizes is None else (self.sizes.first, self.sizes.final)
        return {**vars(self), "history": history, "sizes": sizes}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunState:
        """The state that `to_json` gave. Raises KeyError or TypeError for another value."""
        return cls(
            epochs_done=value["epochs_done"],
            progress=value["progress"],
            seconds=value["seconds"],
            history=tuple(map(EpochLine.from_json, value["history"])),
            sizes=None if value["sizes"] is None else InputSizes(*value["sizes"]),
        )
