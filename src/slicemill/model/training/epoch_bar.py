"""How far an epoch is, told now and then."""

from __future__ import annotations

import logging
import time

from tqdm import tqdm

log = logging.getLogger(__name__)

#: Seconds between two bars.
EVERY = 15.0


class EpochBar:
    """A bar as a log line of its own: what a rank prints reaches the terminal line by line."""

    def __init__(self, epoch: int, steps: int, shown: bool) -> None:
        self._epoch, self._steps, self._shown = epoch, steps, shown
        self._started = self._told = time.monotonic()

    def note(self, step: int, loss: float | None) -> None:
        """Take note of a step that is done, counted from 1, and of its loss, None if it was lost."""
        now = time.monotonic()
        if not self._shown or now - self._told < EVERY:
            return
        self._told = now
        log.info(
            "%s",
            tqdm.format_meter(
                step,
                self._steps,
                now - self._started,
                ncols=80,
                prefix=f"epoch {self._epoch + 1}",
                unit="step",
                postfix=None if loss is None else f"loss {loss:.3f}",
            ),
        )
