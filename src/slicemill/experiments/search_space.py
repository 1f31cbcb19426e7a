"""What a study searches: settings of a training run, each with a list of values or a range."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import numpy as np

from slicemill.config import TrainConfig
from slicemill.errors import ConfigError
from slicemill.io.settings_file import read_yaml, typed
from slicemill.io.storage.uri import canonical, display

#: Settings that say where and on what a run works, or that make trials incomparable.
_NOT_SEARCHED = frozenset(
    {"lake", "split", "out", "task", "fold", "val_share", "budget_minutes", "find_learning_rate", "device"}
    | {"resume", "overwrite", "num_processes", "track", "experiment", "run_name"}
    | {"tensorboard", "figures", "random_labels"}
)


@dataclass(frozen=True)
class Categorical:
    """A setting with a list of values."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A setting between two numbers, both included; `log` draws its logarithm evenly."""

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the setting takes whole numbers only."""
        return isinstance(self.low, int)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return self.low, self.high


Dimension = Categorical | Range


def read_space(uri: str, base: TrainConfig) -> tuple[Dimension, ...]:
    """The search space in a YAML file, `model` first; its values are checked as settings of `base`.

    Raises ConfigError for a name that is not a setting, can't be searched, or is out of range.
    """
    where = display(canonical(uri))
    entries = {name.replace("-", "_"): value for name, value in read_yaml(uri).items()}
    hints = get_type_hints(TrainConfig)
    unsearchable = sorted(name for name in entries if name not in hints or name in _NOT_SEARCHED)
    if unsearchable or not entries:
        raise ConfigError(
            f"{where} names settings that a study can not search",
            expected=f"any of {', '.join(sorted(hints.keys() - _NOT_SEARCHED))}",
            found=", ".join(unsearchable) or "none",
        )
    names = sorted(entries, key=lambda name: name != "model")
    dimensions = tuple(_dimension(where, name, entries[name], hints[name]) for name in names)
    for dimension in dimensions:
        for value in dimension.values if isinstance(dimension, Categorical) else dimension.ends:
            dataclasses.replace(base, **{dimension.name: value})
    return dimensions


def _dimension(where: str, name: str, rule: Any, hint: Any) -> Dimension:
    if isinstance(rule, list) and rule:
        return Categorical(name, tuple(typed(name, value, hint) for value in rule))
    range_keys = {"low", "high", "log", "step"}
    kind = next((kind for kind in (hint, *get_args(hint)) if kind in (int, float)), None)
    if not isinstance(rule, dict) or kind is None or not {"low", "high"} <= rule.keys() <= range_keys:
        raise ConfigError(
            f"{where}: {name} is neither a list nor a range",
            expected="[a, b] or, of a number, {low: a, high: b} with log: true or step: c",
            found=rule,
        )
    low, high = (typed(name, rule[end], kind) for end in ("low", "high"))
    log, step = typed("log", rule.get("log", False), bool), rule.get("step")
    step = None if step is None else typed("step", step, kind)
    if low > high or (log and (low <= 0 or step is not None)) or (step is not None and step <= 0):
        raise ConfigError(
            f"{where}: {name} is not a range",
            expected="low up to high; with log both above 0 and no step; a step above 0",
            found=rule,
        )
    return Range(name, low, high, log, step)


def grid(space: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Every combination of the space's values, the first setting changing slowest.

    Raises ConfigError for a range without steps.
    """
    axes = {dimension.name: _values(dimension) for dimension in space}
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _values(dimension: Dimension) -> tuple[Any, ...]:
    if isinstance(dimension, Categorical):
        return dimension.values
    if dimension.step is None:
        raise ConfigError(
            f"--sampler grid can't go through {dimension.name}", expected="a list, or a step", found="a range"
        )
    count = int(np.floor((dimension.high - dimension.low) / dimension.step * (1 + 1e-9))) + 1
    return tuple(dimension.low + place * dimension.step for place in range(count))


def as_json(space: Sequence[Dimension]) -> list[Mapping[str, Any]]:
    """The space as it is kept with a study."""
    return [
        {
            **dataclasses.asdict(dimension),
            **({"values": list(dimension.values)} if isinstance(dimension, Categorical) else {}),
        }
        for dimension in space
    ]
