"""Settings of a verb as a YAML file: a mapping from the names of its configuration's fields to values."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from slicemill.errors import ConfigError
from slicemill.io import storage
from slicemill.io.storage.uri import canonical, display
from slicemill.types import Uri


def read_yaml(uri: str) -> dict[str, Any]:
    """A YAML file's mapping; raise ConfigError if it holds none, InputError if it can't be read."""
    where = canonical(uri)
    try:
        value = yaml.safe_load(storage.read_bytes(where))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{display(where)} is not YAML", expected="name: value", found=reason) from error
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ConfigError(
            f"{display(where)} holds no settings", expected="lines of name: value", found=type(value).__name__
        )
    return value


def read_settings(uri: str, kind: type[Any]) -> dict[str, Any]:
    """The settings in a file, checked against the fields of the dataclass `kind`.

    Names are as on the command line or in `kind`, with - or _. Raises ConfigError for a name that `kind` does
    not have, or a value of another type.
    """
    entries = {name.replace("-", "_"): value for name, value in read_yaml(uri).items()}
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(entries.keys() - set(names))
    if unknown:
        raise ConfigError(
            f"{display(canonical(uri))} sets a name that is not a setting here",
            expected=f"any of {', '.join(names)}",
            found=", ".join(unknown),
        )
    return {name: typed(name, value, hints[name]) for name, value in entries.items()}


def write_settings(uri: Uri, settings: Mapping[str, Any], comment: str = "") -> None:
    """Write settings that `read_settings` takes, below lines of comment."""
    above = "".join(f"# {line}\n" for line in comment.splitlines())
    storage.write_bytes(uri, (above + yaml.safe_dump(dict(settings), sort_keys=False)).encode())


def typed(name: str, value: Any, hint: Any) -> Any:
    """`value` as `hint` has it; raise ConfigError if it is of another type.

    A whole number is taken as a real one, and so is 1e-3, which YAML 1.1 calls text.
    """
    for kind in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if get_origin(kind) is Literal:
            if any(value == choice and type(value) is type(choice) for choice in get_args(kind)):
                return value
        elif kind is float and (real := _real(value)) is not None:
            return real
        elif isinstance(value, kind) and not (isinstance(value, bool) and kind is int):
            return value
    raise ConfigError(
        f"the setting {name} is of another type",
        expected=getattr(hint, "__name__", str(hint)).replace("typing.", ""),
        found=repr(value),
    )


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
