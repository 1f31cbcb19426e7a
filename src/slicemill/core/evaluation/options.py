"""What may be done with a network's probabilities before they become masks: the options of prediction."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

#: Names of the options in model cards and score tables.
FLIPS, SMOOTH_SLICES, LARGEST_COMPONENT = "flips", "smooth-slices", "largest-component"
BOXES = "boxes"


@dataclass(frozen=True)
class PredictionOptions:
    """Which options are on; all off by default."""

    flips: bool = False
    """The mean over a slice and its flips, at four times the work."""
    smooth_slices: bool = False
    """A slice's probabilities are averaged with those of its neighbours."""
    largest_component: bool = False
    """Of a scan's mask only the largest connected component stays."""
    boxes: bool = False
    """The network sees the head alone, and takes the air around it for free of tumour."""

    @classmethod
    def from_names(cls, names: Iterable[str]) -> PredictionOptions:
        """The options of these names; raise ValueError for an unknown one."""
        field_of = dict(zip((FLIPS, SMOOTH_SLICES, LARGEST_COMPONENT, BOXES), _FIELDS, strict=True))
        requested = set(names)
        if unknown := sorted(requested - field_of.keys()):
            raise ValueError(f"options of prediction: expected {', '.join(field_of)}, found {unknown[0]}")
        return cls(**{field_of[name]: True for name in requested})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the options that are on, always in the same order."""
        states = (self.flips, self.smooth_slices, self.largest_component, self.boxes)
        names = (FLIPS, SMOOTH_SLICES, LARGEST_COMPONENT, BOXES)
        return tuple(name for name, on in zip(names, states, strict=True) if on)

    def overruled(
        self,
        flips: bool | None,
        smooth_slices: bool | None,
        largest_component: bool | None,
        boxes: bool | None = None,
    ) -> PredictionOptions:
        """These options, each replaced where the argument is not None."""
        changes = dict(zip(_FIELDS, (flips, smooth_slices, largest_component, boxes), strict=True))
        return dataclasses.replace(self, **{name: on for name, on in changes.items() if on is not None})


_FIELDS = tuple(field.name for field in dataclasses.fields(PredictionOptions))

#: Every choice of cleaning, without flips, the fewest options first.
CLEANINGS = tuple(
    sorted(
        (
            PredictionOptions(False, smooth, largest)
            for smooth, largest in itertools.product((False, True), repeat=2)
        ),
        key=lambda options: (len(options.names), options.largest_component),
    )
)
#: Every choice of options: without flips, then with them.
ALL_OPTIONS = tuple(
    dataclasses.replace(cleaning, flips=flips) for flips in (False, True) for cleaning in CLEANINGS
)
