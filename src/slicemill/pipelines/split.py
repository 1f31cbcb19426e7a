"""Assign the lake's patients to parts or folds, once and for good."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slicemill.config import SplitConfig
from slicemill.core.profiles.lake_profile import equal_images
from slicemill.core.splits import (
    PARTS,
    PatientFacts,
    assign,
    groups_of_patients,
    hold_out,
    refuse_leaky,
    split_hash,
)
from slicemill.errors import ConfigError, InputError
from slicemill.io.lake import splits
from slicemill.io.lake.card import require_lake
from slicemill.io.lake.reader import read_scans
from slicemill.io.lake.rows import ScanRow
from slicemill.io.lake.splits import Split
from slicemill.io.parquet import read_small_or_empty
from slicemill.io.places import Lake
from slicemill.io.raw.delimited import read_text
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical
from slicemill.schemas import TOTALS
from slicemill.types import Uri

log = logging.getLogger(__name__)


def run(config: SplitConfig) -> dict[str, Any]:
    """Make or extend the split, as the lake's only writer, and return the summary with patients per part.

    Raises ConfigError for a split that can't be made of the lake's patients, InputError for a wrong holdout.
    """
    refuse_leaky(config.name, "--name")
    home = canonical(config.lake)
    require_lake(home)
    with sole_writer(home, f"split-{config.name}"):
        return _split(config, home)


def _split(config: SplitConfig, home: Uri) -> dict[str, Any]:
    scans = read_scans(home)
    names = _read_holdout(config.holdout)
    recipe = _recipe(config, names)
    earlier = _earlier(home, config.name, recipe)
    together = _together(home, scans)
    holdout, unknown = _held(config, scans, names, together)
    candidates = [facts for facts in _facts(scans) if facts.patient_id not in holdout]
    shares = _shares(config, len(candidates))
    standing = {patient: part for patient, part in earlier.items() if patient not in holdout}
    assigned = {
        **assign(candidates, shares, config.seed, standing, together),
        **dict.fromkeys(holdout, "test"),
    }
    card = {
        **recipe,
        "name": config.name,
        "patients": len(assigned),
        "together": [list(group) for group in together],
        "hash": split_hash(assigned),
    }
    splits.write_split(home, Split(config.name, assigned, card))
    counts = Counter(assigned.values())
    return {
        "job": "split",
        "status": "done",
        "name": config.name,
        "patients": {part: counts[part] for part in (shares if not config.holdout else PARTS)},
        "kept": sum(patient in earlier for patient in assigned),
        "kept_together": sum(map(len, together)),
        "unknown_holdout_ids": unknown,
        "hash": card["hash"],
    }


def _read_holdout(uri: str | None) -> list[str]:
    if uri is None:
        return []
    lines = [line.strip() for line in read_text(canonical(uri)).splitlines()]
    return sorted({line for line in lines if line and not line.startswith("#")})


def _together(home: Uri, scans: Sequence[ScanRow]) -> tuple[tuple[str, ...], ...]:
    """Groups of patients that must not be parted; the profile names the pictures that they share."""
    patient_of = {row.scan_id: row.patient_id for row in scans}
    columns = ("scan_id", "patient_id", "image_hashes")
    totals = read_small_or_empty(Lake(home).totals, TOTALS, columns).to_pylist()
    pictures = [
        {patient_of[scan_id] for scan_id in group if scan_id in patient_of} for group in equal_images(totals)
    ]
    groups = groups_of_patients(patient_of.values(), [group for group in pictures if group])
    if groups:
        log.warning(
            "%d patients share pictures, or an id but for its spelling, and stay together in %d groups; the "
            "split's card names them",
            sum(map(len, groups)),
            len(groups),
        )
    return groups


def _held(
    config: SplitConfig,
    scans: Sequence[ScanRow],
    names: Sequence[str],
    together: Sequence[Sequence[str]],
) -> tuple[set[str], list[str]]:
    """Patients of the holdout, those that stay together with them too, and names that the lake has not."""
    holdout, unknown = hold_out(
        {row.patient_id for row in scans}, {row.scan_id: row.patient_id for row in scans}, names
    )
    if config.holdout and not holdout:
        raise InputError(
            "the holdout names no scan of the lake",
            expected="scan or patient ids of the lake",
            found=", ".join(unknown[:3]) or "an empty file",
        )
    if unknown:
        log.warning(
            "%d of the holdout's names are not in the lake: %s", len(unknown), ", ".join(unknown[:10])
        )
    for group in together:
        if not holdout.isdisjoint(group):
            holdout |= set(group)
    return holdout, unknown


def _shares(config: SplitConfig, patients: int) -> dict[str, float]:
    if config.folds is not None:
        if config.folds > patients:
            raise ConfigError(
                "--folds asks for more folds than the lake has patients",
                expected=f"3 to {patients}" if patients >= 3 else "a lake of at least 3 patients",
                found=config.folds,
            )
        return {f"fold-{fold}": 1 / config.folds for fold in range(config.folds)}
    if config.holdout:
        return {"train": 1 - config.val_fraction, "val": config.val_fraction}
    return dict(zip(PARTS, config.part_fractions(), strict=True))


def _recipe(config: SplitConfig, names: list[str]) -> dict[str, Any]:
    """What makes two splits the same kind: an existing split is extended only by its own recipe."""
    recipe: dict[str, Any] = {"seed": config.seed}
    if config.folds is not None:
        return {**recipe, "method": "folds", "folds": config.folds}
    if config.holdout:
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
        return {**recipe, "method": "holdout", "holdout_hash": digest, "val_fraction": config.val_fraction}
    return {**recipe, "method": "fractions", "fractions": list(config.part_fractions())}


def _earlier(home: Uri, name: str, recipe: Mapping[str, Any]) -> dict[str, str]:
    if not splits.exists(home, name):
        return {}
    split = splits.read_split(home, name)
    stored = {key: split.card.get(key) for key in recipe}
    if stored != recipe:
        raise ConfigError(
            f"the split {name} exists and was made another way",
            expected=stored,
            found=dict(recipe),
            advice="Choose another --name.",
        )
    return dict(split.assigned)


def _facts(scans: Sequence[ScanRow]) -> list[PatientFacts]:
    grouped: dict[str, list[ScanRow]] = defaultdict(list)
    for row in scans:
        grouped[row.patient_id].append(row)
    return [
        PatientFacts(
            patient,
            rows[0].institution or "",
            float(np.mean([row.tumour_voxel_fraction for row in rows])),
            any(row.labelled_slices for row in rows),
        )
        for patient, rows in sorted(grouped.items())
    ]
