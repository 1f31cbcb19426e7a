"""Splits as they are stored: a table of patients, and a card beside it with method, seed and hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slicemill.core.splits import check_disjoint, parts_of_fold, refuse_leaky, split_hash
from slicemill.errors import ConfigError, InputError
from slicemill.io import storage
from slicemill.io.parquet import read_small, write_small
from slicemill.io.places import Lake
from slicemill.io.storage.fence import Fence
from slicemill.schemas import SCHEMA_VERSION, SPLIT
from slicemill.types import Uri

#: Of a card, while its split is replaced: the card that is to come.
_NEXT = "next"


@dataclass(frozen=True)
class Split:
    """A stored split: part (or "fold-K") by patient id, and its card."""

    name: str
    assigned: Mapping[str, str]
    card: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """SHA-256 of the assignment."""
        return str(self.card["hash"])

    @property
    def folds(self) -> int | None:
        """Number of folds; None in a split of parts."""
        value = self.card.get("folds")
        return None if value is None else int(value)

    def parts(self, fold: int | None = None, val_share: float | None = None) -> dict[str, str]:
        """Part by patient id: train, val or test. A split of folds needs the `fold` that is tested.

        `val_share`: see `parts_of_fold`. Raises ConfigError for what does not fit the split.
        """
        if self.folds is None:
            for flag, value in (("--fold", fold), ("--val-share", val_share)):
                if value is not None:
                    raise ConfigError(
                        f"{flag} does not fit the split",
                        expected="a split of folds",
                        found=f"{self.name}, a split of parts",
                        advice=f"Leave {flag} out.",
                    )
            return dict(self.assigned)
        if fold is None or not 0 <= fold < self.folds:
            raise ConfigError(
                f"the split {self.name} has folds", expected=f"--fold 0 to {self.folds - 1}", found=fold
            )
        return parts_of_fold(
            {patient: int(part.removeprefix("fold-")) for patient, part in self.assigned.items()},
            fold,
            val_share,
            self.card.get("together", ()),
        )

    def patients(self, part: str) -> set[str]:
        """Patients of a part (train, val, test) or of a fold (fold-K)."""
        patients = {patient for patient, part_of in self.assigned.items() if part_of == part}
        if not patients:
            raise ConfigError(
                f"the split {self.name} has no part {part}",
                expected=" or ".join(sorted(set(self.assigned.values()))),
                found=part,
            )
        return patients


def exists(home: Uri, name: str) -> bool:
    """Whether the lake has a split of this name."""
    return storage.exists(Lake(home).split_card(name))


def split_names(home: Uri) -> list[str]:
    """Names of the lake's splits, sorted."""
    files = storage.list_or_none(Lake(home).splits)
    names = [
        file.uri.rpartition("/")[2].removesuffix(".json") for file in files if file.uri.endswith(".json")
    ]
    return sorted(name for name in names if not name.startswith("."))


def write_split(home: Uri, split: Split) -> None:
    """Store a split: the table first, the card that vouches for it last."""
    write_small(Lake(home).split(split.name), SPLIT, _rows(split))
    storage.write_json(Lake(home).split_card(split.name), _stored_card(split))


def replace_split(fence: Fence, split: Split) -> bool:
    """Store a split over one of its name, unless it is the same; return whether it is another.

    Killed anywhere, the split can be read, as it was or as it is now: meanwhile its card vouches for both.
    """
    lake = Lake(fence.home)
    if storage.read_json(lake.split_card(split.name)) == split.card:
        return False
    card = _stored_card(split)
    fence.write_json(lake.split_card(split.name), {**read_split(fence.home, split.name).card, _NEXT: card})
    write_small(lake.split(split.name), SPLIT, _rows(split), write=fence.write)
    fence.write_json(lake.split_card(split.name), card)
    return True


def _rows(split: Split) -> list[dict[str, Any]]:
    rows = []
    for patient, part in sorted(split.assigned.items()):
        fold = int(part.removeprefix("fold-")) if part.startswith("fold-") else None
        rows.append({"patient_id": patient, "part": None if fold is not None else part, "fold": fold})
    return rows


def _stored_card(split: Split) -> dict[str, Any]:
    return {**split.card, "schema_version": SCHEMA_VERSION}


def read_split(home: Uri, name: str) -> Split:
    """Read a split; raise InputError if it is missing, names a patient twice, or belies its card.

    Raises ConfigError for the name of a split that leaks on purpose.
    """
    refuse_leaky(name, "--split")
    if not exists(home, name):
        raise InputError(
            f"the lake has no split {name}",
            expected=", ".join(split_names(home)) or "a split made by slicemill split",
            found=name,
        )
    card = dict(storage.read_json(Lake(home).split_card(name)))
    following = card.pop(_NEXT, None)
    rows = read_small(Lake(home).split(name), SPLIT).to_pylist()
    pairs = [
        (row["patient_id"], row["part"] if row["fold"] is None else f"fold-{row['fold']}") for row in rows
    ]
    check_disjoint(pairs)
    assigned = dict(pairs)
    if following and split_hash(assigned) == following["hash"]:
        card = following
    if split_hash(assigned) != card.get("hash"):
        raise InputError(
            f"the split {name} is not what its card says",
            expected=card.get("hash"),
            found=split_hash(assigned),
            advice="Make it again under a new name.",
        )
    return Split(name, assigned, card)
