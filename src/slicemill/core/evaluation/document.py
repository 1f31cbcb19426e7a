"""Dataclasses of evaluation as what JSON holds: objects with the fields' names."""

from __future__ import annotations

import dataclasses
from typing import Any


def document(value: Any) -> Any:
    """`value` with every dataclass and named tuple in it as a dict, and every tuple as a list."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: document(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: document(part) for name, part in zip(value._fields, value, strict=True)}
    if isinstance(value, dict):
        return {name: document(part) for name, part in value.items()}
    return [document(part) for part in value] if isinstance(value, list | tuple) else value
