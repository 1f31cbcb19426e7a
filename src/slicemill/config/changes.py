"""Which settings of a run differ from those that it began with."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from slicemill.config.training import TrainConfig

#: Settings of what is told about a run, which change nothing in it.
RECORDING = frozenset({"figures", "tensorboard", "track", "experiment", "run_name"})

_DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainConfig)}


def changed_settings(
    before: Mapping[str, object], now: Mapping[str, object], free: Collection[str] = ()
) -> list[str]:
    """Names, sorted, of settings with another value than before; those that are `free` to change left out.

    A setting that one side lacks, because another release stored it, has its default there.
    """
    names = (before.keys() | now.keys()) - set(free)
    return sorted(
        name for name in names if before.get(name, _DEFAULTS.get(name)) != now.get(name, _DEFAULTS.get(name))
    )
