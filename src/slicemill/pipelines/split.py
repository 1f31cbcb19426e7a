"""Assign the lake's patients to parts or folds, once and for good."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from slicemill.config import SplitConfig
from slicemill.core.splits import PARTS, PatientFacts, assign, hold_out, refuse_leaky, split_hash
from slicemill.errors import ConfigError, InputError
from slicemill.io import storage
from slicemill.io.lake import splits
from slicemill.io.lake.reader import read_scans
from slicemill.io.lake.splits import Split
from slicemill.io.storage.uri import canonical
from slicemill.types import Uri

log = logging.getLogger(__name__)


def run(config: SplitConfig) -> dict[str, Any]:
    """Make or extend the split and return the summary with patients per part."""
    refuse_leaky(config.name, "--name")
    home = canonical(config.lake)
    scans = read_scans(home, ("patient_id", "scan_id", "institution", "tumour_voxel_fraction"))
    named = _read_holdout(canonical(config.holdout) if config.holdout else None)
    recipe = _recipe(config, named)
    earlier = _earlier(home, config.name, recipe)
    held, unknown = hold_out(
        {row["patient_id"] for row in scans}, {row["scan_id"]: row["patient_id"] for row in scans}, named
    )
    if config.holdout and not held:
        raise InputError(
            "the holdout names no scan of the lake",
            expected="scan or patient ids of the lake",
            found=", ".join(unknown[:3]) or "an empty file",
        )
    if unknown:
        log.warning(
            "%d of the holdout's names are not in the lake: %s", len(unknown), ", ".join(unknown[:10])
        )
    facts = _facts(scans)
    shares = _shares(config)
    rest = [one for one in facts if one.patient_id not in held]
    assigned = {
        **assign(rest, shares, config.seed, {k: v for k, v in earlier.items() if k not in held}),
        **dict.fromkeys(held, "test"),
    }
    card = {**recipe, "name": config.name, "patients": len(assigned), "hash": split_hash(assigned)}
    splits.write_split(home, Split(config.name, assigned, card))
    counts = Counter(assigned.values())
    return {
        "job": "split",
        "status": "done",
        "name": config.name,
        "patients": {part: counts[part] for part in (shares if not config.holdout else PARTS)},
        "kept": sum(patient in earlier for patient in assigned),
        "unknown_holdout_ids": unknown,
        "hash": card["hash"],
    }


def _read_holdout(uri: Uri | None) -> list[str]:
    if uri is None:
        return []
    lines = storage.read_bytes(uri).decode("utf-8-sig").splitlines()
    return sorted({line.strip() for line in lines if line.strip() and not line.startswith("#")})


def _shares(config: SplitConfig) -> dict[str, float]:
    if config.folds is not None:
        return {f"fold-{fold}": 1 / config.folds for fold in range(config.folds)}
    if config.holdout:
        return {"train": 1 - config.val_fraction, "val": config.val_fraction}
    return dict(zip(PARTS, config.part_fractions(), strict=True))


def _recipe(config: SplitConfig, named: list[str]) -> dict[str, Any]:
    """What makes two splits the same kind: an existing split is extended only by its own recipe."""
    recipe: dict[str, Any] = {"seed": config.seed}
    if config.folds is not None:
        return {**recipe, "method": "folds", "folds": config.folds}
    if config.holdout:
        digest = hashlib.sha256("\n".join(named).encode()).hexdigest()
        return {**recipe, "method": "holdout", "holdout_hash": digest, "val_fraction": config.val_fraction}
    return {**recipe, "method": "fractions", "fractions": list(config.part_fractions())}


def _earlier(home: Uri, name: str, recipe: dict[str, Any]) -> dict[str, str]:
    if not splits.exists(home, name):
        return {}
    split = splits.read_split(home, name)
    there = {key: split.card.get(key) for key in recipe}
    if there != recipe:
        raise ConfigError(
            f"the split {name} exists and was made another way",
            expected=there,
            found=recipe,
            advice="Choose another --name.",
        )
    return dict(split.assigned)


def _facts(scans: list[dict[str, Any]]) -> list[PatientFacts]:
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in scans:
        grouped[row["patient_id"]].append(row)
    return [
        PatientFacts(
            patient,
            rows[0]["institution"] or "",
            float(np.mean([row["tumour_voxel_fraction"] for row in rows])),
        )
        for patient, rows in sorted(grouped.items())
    ]
