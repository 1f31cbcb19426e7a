"""What nodes cost, by a price file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from slicemill.errors import ConfigError

#: Hours of a month by which AWS charges volumes.
_HOURS_A_MONTH = 730


@dataclass(frozen=True)
class Prices:
    """Hourly list prices of one region in US dollars."""

    region: str
    source: str
    ec2: Mapping[str, float]
    emr: Mapping[str, float]
    gp3_gib_month: float
    serverless_vcpu_hour: float | None = None
    serverless_gib_hour: float | None = None

    def node_hour(self, name: str, gib: int) -> float | None:
        """Dollars an hour of one node of a type, its EMR charge and `gib` of volumes included.

        None if the price file does not know the type.
        """
        if name not in self.ec2 or name not in self.emr:
            return None
        return self.ec2[name] + self.emr[name] + gib * self.gp3_gib_month / _HOURS_A_MONTH


def read_prices(path: str | None = None) -> Prices:
    """Prices from a file, the one that comes with slicemill by default. Raises ConfigError."""
    try:
        source = Path(path) if path else files(__package__) / "prices.json"
        table: dict[str, Any] = json.loads(source.read_text("utf-8"))
        names = [field.name for field in fields(Prices) if field.default is MISSING or field.name in table]
        return Prices(**{name: table[name] for name in names})
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            "--prices can't be read",
            expected=f"JSON with {', '.join(Prices.__dataclass_fields__)}",
            found=f"{type(error).__name__}: {error}",
        ) from error
