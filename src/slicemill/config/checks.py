"""What every setting's check shares."""

from __future__ import annotations

import dataclasses
from typing import Any

from slicemill.errors import ConfigError


def require(condition: bool, flag: str, expected: str, value: object) -> None:
    """Raise ConfigError for the flag unless the condition holds."""
    if not condition:
        raise ConfigError(f"{flag} is out of range", expected=expected, found=value)


def require_volumes(probabilities: bool, nifti: bool) -> None:
    """Raise ConfigError where probabilities are asked for without the volumes that hold them."""
    if probabilities and not nifti:
        raise ConfigError(
            "--probabilities are written as volumes", expected="--nifti beside it", found="no --nifti"
        )


def single_text_as_tuple(config: Any) -> None:
    """From Python one folder may come without its tuple, and several as a list: make them tuples.

    A text is a sequence of letters too, and its first, "/", a folder.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if str(field.type).startswith("tuple[str, ...]") and isinstance(value, str | list):
            object.__setattr__(config, field.name, (value,) if isinstance(value, str) else tuple(value))


def spacing_sides(text: str) -> tuple[float | str, ...]:
    """Distance of slices, rows and columns in dz,dy,dx, each a number or a column of the clinical table.

    Raises ConfigError for other text.
    """
    sides = tuple(_side(part.strip()) for part in text.split(","))
    good = len(sides) == 3 and all(
        side if isinstance(side, str) else 0 < side < float("inf") for side in sides
    )
    require(good, "--spacing", "three numbers above 0, or columns of the clinical table, dz,dy,dx", text)
    return sides


def require_table(sides: tuple[float | str, ...] | None, clinical: str | None, lake: str | None) -> None:
    """Raise ConfigError where --spacing names a column of no table, and for a table without such a column."""
    columns = [side for side in sides or () if isinstance(side, str)]
    if columns and not clinical and not lake:
        raise ConfigError(
            "--spacing names a column, and there is no clinical table",
            expected="--clinical with the table that holds it",
            found=", ".join(columns),
        )
    if clinical and not columns:
        raise ConfigError(
            "--clinical is for columns that --spacing names",
            expected="--spacing such as thickness,0.9,0.9",
            found="no column",
        )


def _side(part: str) -> float | str:
    try:
        return float(part)
    except ValueError:
        return part


def require_engine_can(engine: str, device: str, precision: str) -> None:
    """Raise ConfigError where ONNX Runtime is asked for what only torch does here, or torch for int8."""
    if engine == "torch" and precision == "int8":
        raise ConfigError(
            "--engine torch does not go with --precision int8",
            expected="--engine auto or onnx",
            found="--engine torch",
        )
    if engine != "onnx" and precision != "int8":
        return
    choice = "--precision int8" if precision == "int8" else "--engine onnx"
    for flag, value, possible in (
        ("--device", device, ("cpu",)),
        ("--precision", precision, ("fp32", "int8")),
    ):
        if value not in ("auto", *possible):
            raise ConfigError(
                f"{choice} does not go with {flag} {value}",
                expected=f"{flag} {' or '.join(possible)}, or --engine torch",
                found=f"{flag} {value}",
            )
