"""What each field of a model card may hold: a card comes from a bucket, and anyone may have written it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from slicemill.core.evaluation.options import FLIPS, LARGEST_COMPONENT, SMOOTH_SLICES
from slicemill.core.scans.channels import ChannelMode
from slicemill.core.scans.normalise import RULE_NAMES
from slicemill.core.scans.scan import SEQUENCES

_OPTIONS = (FLIPS, SMOOTH_SLICES, LARGEST_COMPONENT)

#: Largest network input, in pixels a side, and most first filters of a network: what memory bears.
MOST_PIXELS, MOST_FILTERS = 2048, 256

#: Most members of a committee, most numbers of a self-test, and most patients of a part.
_MOST_MEMBERS, _MOST_LOGITS, _MOST_PATIENTS = 100, 4096, 1_000_000

#: Longest text in a field, in characters.
_LONGEST = 4096

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHORT_HASH = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Field:
    """A field of a card: what it should be, in words, and whether a JSON value is that."""

    expected: str
    accepts: Callable[[Any], bool]


def _one_of(*values: str) -> Field:
    return Field(f"one of {', '.join(values)}", lambda value: isinstance(value, str) and value in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object, least: int, limit: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= limit


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


def _is_size(value: object) -> bool:
    return isinstance(value, int) and _is_count(value, 32, MOST_PIXELS) and value % 32 == 0


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool) or _is_number(value) or _is_text(value)


def _is_table(value: object, accepts: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(accepts, value.values()))


def _is_list(value: object, accepts: Callable[[Any], bool], limit: int = _LONGEST) -> bool:
    return isinstance(value, list) and len(value) <= limit and all(map(accepts, value))


def _is_training(value: object) -> bool:
    if not isinstance(value, dict) or not _is_table(
        value, lambda entry: _is_plain(entry) or _is_list(entry, _is_plain)
    ):
        return False
    filters, dropout = value.get("filters"), value.get("dropout")
    return (filters is None or _is_count(filters, 1, MOST_FILTERS)) and (
        dropout is None or (_is_number(dropout) and 0 <= dropout < 1)
    )


def _is_profile(value: object) -> bool:
    """Empty, or as `slicemill.core.profiles.drift.training_profile` gives it."""
    if not isinstance(value, dict):
        return False
    return not value or (
        value.keys() == {"scans", "sizes", "missing_sequences", "channels"}
        and _is_count(value["scans"], 0)
        and _is_list(value["sizes"], lambda size: _is_pair(size, lambda side: _is_count(side, 0)))
        and _is_table(value["missing_sequences"], lambda count: _is_count(count, 0))
        and _is_list(
            value["channels"],
            lambda channel: _is_table(channel, lambda usual: _is_pair(usual, _is_number)),
            len(SEQUENCES),
        )
    )


def _is_pair(value: object, accepts: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(accepts, value))


def _is_self_test(value: object) -> bool:
    return value is None or (
        isinstance(value, dict)
        and value.keys() == {"size", "logits"}
        and _is_size(value["size"])
        and _is_list(value["logits"], _is_number, _MOST_LOGITS)
        and len(value["logits"]) > 0
    )


def _is_short_hash(value: object) -> bool:
    return isinstance(value, str) and bool(_SHORT_HASH.fullmatch(value))


_TEXT = Field(f"text of at most {_LONGEST} characters", _is_text)

#: Every field of `Card`, and the id that is written beside them.
FIELDS: Mapping[str, Field] = {
    "task": _one_of("segment", "classify"),
    "architecture": _TEXT,
    "channels": Field(f"{', '.join(SEQUENCES)}, in this order", lambda value: value == list(SEQUENCES)),
    "normalisation": _one_of(*RULE_NAMES.values()),
    "input_size": Field(f"a whole number, a multiple of 32 up to {MOST_PIXELS}", _is_size),
    "threshold": Field("a number between 0 and 1", lambda value: _is_number(value) and 0 < value < 1),
    "split": _TEXT,
    "split_hash": _TEXT,
    "data_hash": _TEXT,
    "metrics": Field("an object of numbers", lambda value: _is_table(value, _is_plain)),
    "versions": Field("an object of texts", lambda value: _is_table(value, _is_text)),
    "training": Field(
        f"an object of settings, filters 1 to {MOST_FILTERS}, dropout 0 to below 1", _is_training
    ),
    "weights_sha256": Field(
        "64 hex digits", lambda value: isinstance(value, str) and bool(_SHA256.fullmatch(value))
    ),
    "channel_mode": _one_of(*get_args(ChannelMode)),
    "training_profile": Field("a profile of the training scans, or an empty object", _is_profile),
    "initial_weights": Field("an object of texts", lambda value: _is_table(value, _is_text)),
    "self_test": Field("null, or a size and finite logits", _is_self_test),
    "options": Field(
        f"a list of {', '.join(_OPTIONS)}",
        lambda value: _is_list(value, lambda name: name in _OPTIONS) and len(set(value)) == len(value),
    ),
    "members": Field(
        f"a list of at most {_MOST_MEMBERS} model ids",
        lambda value: _is_list(value, _is_short_hash, _MOST_MEMBERS) and len(set(value)) == len(value),
    ),
    "patients": Field(
        "an object of lists of hashes",
        lambda value: _is_table(value, lambda part: _is_list(part, _is_short_hash, _MOST_PATIENTS)),
    ),
    "created": _TEXT,
    "model_id": _TEXT,
}
