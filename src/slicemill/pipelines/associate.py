"""Shape features of masks against clinical columns: what the study of a data set was about."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from scipy import stats

from slicemill.config import AssociateConfig
from slicemill.core.evaluation.document import document
from slicemill.core.results.association_result import Agreement, AssociationResult
from slicemill.core.results.feature_rows import PREDICTORS, TESTED, FeatureRow, by_patient
from slicemill.core.results.survival_result import Survival, SurvivalRefusal
from slicemill.core.results.target_result import Target
from slicemill.errors import ConfigError, InputError
from slicemill.experiments.clinical.association import associations
from slicemill.experiments.clinical.features import FeatureTable, feature_table
from slicemill.experiments.clinical.survival import FollowUp, follow_ups, survival
from slicemill.experiments.clinical.target import predict_target
from slicemill.io import storage
from slicemill.io.lake.tables import LakeTables, read_lake
from slicemill.io.machine import command, describe
from slicemill.io.parquet import write_small
from slicemill.io.places import Associations, Crossval
from slicemill.io.scores.results import read_scores
from slicemill.io.spreadsheet import text_cell
from slicemill.io.storage.uri import canonical, display
from slicemill.pages.association import as_html, as_markdown
from slicemill.schemas import FEATURES, SCHEMA_VERSION
from slicemill.types import Uri

_MASKS: tuple[Literal["predicted", "true"], ...] = ("predicted", "true")


def run(config: AssociateConfig) -> dict[str, Any]:
    """Compute features, test them, write tables and page, and return the summary; no Spark session is needed.

    Raises InputError for scores that are not out of fold, ConfigError for a column that the lake lacks.
    """
    lake = read_lake(canonical(config.lake))
    outcomes = _outcomes(lake, config.outcome)
    followed = _follow_ups(lake, config)
    homes = [home for uri in config.scores for home in _score_folders(canonical(uri))]
    table = feature_table(lake, [read_scores(home) for home in homes], config.sides())
    tests = {
        mask: tuple(associations(by_patient(table.rows, mask), outcomes, config.seed)) for mask in _MASKS
    }
    result = AssociationResult(
        scans=len({row.scan_id for row in table.rows}),
        spacing=config.sides(),
        empty_predicted=table.empty_predicted,
        empty_true=table.empty_true,
        without_truth=table.without_truth,
        agreement=tuple(_agreement(table, feature) for feature in TESTED),
        **tests,
        predicted_targets=_targets(table, "predicted", lake, config),
        true_targets=_targets(table, "true", lake, config),
        predicted_survival=_survival(table, "predicted", followed, lake, config),
        true_survival=_survival(table, "true", followed, lake, config),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command(),
    )
    _write(Associations(canonical(config.out)), table, outcomes, result)
    return {
        "job": "associate",
        "status": "done",
        "scans": result.scans,
        "outcomes": len(outcomes),
        "tests": len(result.predicted),
        "significant": sum(test.fisher_bonferroni < 0.05 for test in result.predicted),
        "significant_by_truth": sum(test.fisher_bonferroni < 0.05 for test in result.true),
        "targets": len(config.target),
        "out": display(canonical(config.out)),
    }


def _score_folders(uri: Uri) -> list[Uri]:
    """The score folders of a cross-validation's folds, or the folder itself."""
    places = Crossval(uri)
    if not storage.exists(places.result):
        return [uri]
    folds = storage.read_json(places.result)["folds"]
    return [places.scores(fold) for fold in range(len(folds))]


def _targets(
    table: FeatureTable, mask: Literal["predicted", "true"], lake: LakeTables, config: AssociateConfig
) -> tuple[Target, ...]:
    """Each --target predicted from the features of one kind of mask, by patient."""
    by_name = by_patient(table.rows, mask, PREDICTORS)
    features = {
        patient: np.array([by_name[name][patient] for name in PREDICTORS], np.float64)
        for patient in by_name[PREDICTORS[0]]
    }
    columns = _columns(lake, config.target, "--target")
    return tuple(predict_target(name, features, labels, config.seed) for name, labels in columns.items())


def _follow_ups(lake: LakeTables, config: AssociateConfig) -> dict[str, FollowUp]:
    if config.time is None or config.event is None:
        return {}
    for flag, name in (("--time", config.time), ("--event", config.event)):
        _require_columns(lake, [name], flag)
    columns = f"{config.time} and {config.event}"
    return follow_ups(lake.clinical[config.time], lake.clinical[config.event], columns)


def _survival(
    table: FeatureTable,
    mask: Literal["predicted", "true"],
    followed: dict[str, FollowUp],
    lake: LakeTables,
    config: AssociateConfig,
) -> Survival:
    """Every tested feature of one kind of mask against survival, by patient."""
    if config.time is None or config.event is None:
        return SurvivalRefusal(
            "it takes a column with times beside one with events, named by --time and --event; the clinical "
            f"columns are {', '.join(lake.clinical)}"
        )
    return survival(by_patient(table.rows, mask), followed, config.time, config.event)


def _outcomes(lake: LakeTables, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Group by patient of each clinical column to test; by default the cluster columns."""
    outcomes = tuple(names) or tuple(name for name in lake.clinical if name.endswith("Cluster"))
    if not outcomes:
        raise ConfigError(
            "the lake has no cluster column",
            expected=", ".join(lake.clinical) or "a lake that was ingested with --clinical",
            found="none",
        )
    return _columns(lake, outcomes, "--outcome")


def _columns(lake: LakeTables, names: Sequence[str], flag: str) -> dict[str, dict[str, str]]:
    """Value by patient of each clinical column; empty cells are left out."""
    _require_columns(lake, names, flag)
    return {
        name: {
            patient: str(value) for patient, value in lake.clinical[name].items() if value not in (None, "")
        }
        for name in names
    }


def _require_columns(lake: LakeTables, names: Sequence[str], flag: str) -> None:
    unknown = [name for name in names if name not in lake.clinical]
    if unknown:
        raise ConfigError(
            f"{flag} is not a clinical column of the lake",
            expected=", ".join(lake.clinical) or "a lake that was ingested with --clinical",
            found=", ".join(unknown),
        )


def _agreement(table: FeatureTable, feature: str) -> Agreement:
    """What automatic masks cost: the feature by predicted masks against the same by true ones."""
    values = {
        mask: {row.scan_id: float(getattr(row, feature)) for row in table.rows if row.mask == mask}
        for mask in _MASKS
    }
    predicted, true = (values[mask] for mask in _MASKS)
    common = sorted(predicted.keys() & true.keys())
    ours, truth = (np.array([by_scan[scan] for scan in common]) for by_scan in (predicted, true))
    varied = len(common) > 2 and len(set(ours)) > 1 and len(set(truth)) > 1
    return Agreement(
        feature,
        len(common),
        spearman=float(stats.spearmanr(ours, truth).statistic) if varied else None,
        median_ratio=float(np.median(ours / truth)) if len(common) and truth.all() else None,
    )


def _write(
    places: Associations,
    table: FeatureTable,
    outcomes: dict[str, dict[str, str]],
    result: AssociationResult,
) -> None:
    if not table.rows:
        raise InputError(
            "no scan has a mask with tumour", expected="at least one predicted or true tumour", found="none"
        )
    write_small(places.features, FEATURES, [vars(row) for row in table.rows])
    sink = io.StringIO()
    writer = csv.DictWriter(
        sink, [field.name for field in dataclasses.fields(FeatureRow)], lineterminator="\n"
    )
    writer.writeheader()
    for row in table.rows:
        cells = vars(row) | {"spacing": " ".join(map(str, row.spacing))}
        writer.writerow({name: text_cell(v) if isinstance(v, str) else v for name, v in cells.items()})
    storage.write_bytes(places.features_csv, sink.getvalue().encode())
    storage.write_bytes(places.markdown, as_markdown(result).encode())
    storage.write_bytes(places.page, as_html(result, table.rows, outcomes))
    storage.write_json(places.tests, {"schema_version": SCHEMA_VERSION, **describe(), **document(result)})
