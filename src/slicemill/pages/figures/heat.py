"""Maps of probability and of uncertainty, as colours with transparency that lie over a slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex

from slicemill.core.evaluation.confidence import BINS, TOP, Levels, entropy
from slicemill.pages.sections.blocks import Scale

#: How much of a colour is seen; the rest is the slice below it.
_OPACITY = 0.65


@dataclass(frozen=True)
class Quantity:
    """What a map shows of probabilities in steps of 1/255: words, values in the same steps, and colours."""

    name: str
    values: Callable[[Levels], Levels]
    colour_map: str
    unit: str = ""

    @property
    def scale(self) -> Scale:
        """The legend; the lowest twentieth has no colour."""
        colours = tuple(to_hex(colour) for colour in self._colours()[1:])
        return Scale(self.name, f"{1 / BINS:g}", f"1{self.unit}", colours)

    def picture(self, values: Levels) -> npt.NDArray[np.uint8]:
        """Values, of any axes, as RGBA in a last axis: a colour for each twentieth, none for the lowest."""
        colours = np.rint(self._colours() * 255).astype(np.uint8)
        colours[:, 3] = round(_OPACITY * 255)
        colours[0] = 0
        steps = np.minimum(np.arange(TOP + 1) * BINS // TOP, BINS - 1)
        return np.asarray(colours[steps][values])

    def _colours(self) -> npt.NDArray[np.float64]:
        return np.asarray(mpl.colormaps[self.colour_map](np.linspace(0.15, 1, BINS)), np.float64)


PROBABILITY: Final = Quantity("probability of tumour", lambda levels: levels, "inferno")
UNCERTAINTY: Final = Quantity("uncertainty", entropy, "viridis", " bit")
QUANTITIES: Final = (PROBABILITY, UNCERTAINTY)
