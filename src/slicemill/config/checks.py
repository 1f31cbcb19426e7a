"""What every setting's check shares."""

from __future__ import annotations

from slicemill.errors import ConfigError


def require(condition: bool, flag: str, expected: str, value: object) -> None:
    """Raise ConfigError for the flag unless the condition holds."""
    if not condition:
        raise ConfigError(f"{flag} is out of range", expected=expected, found=value)
