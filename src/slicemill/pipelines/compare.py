"""Runs side by side: what each is worth, what it cost, and how they differ patient by patient."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from slicemill.config import CompareConfig
from slicemill.core.evaluation.intervals import Interval
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.seen import unseen_and_seen
from slicemill.core.evaluation.summary import (
    Metric,
    paired_difference,
    patient_accuracy,
    patient_interval,
    patient_means,
    slice_summary,
)
from slicemill.core.results.side_by_side import (
    ComparedRun,
    ModelFacts,
    NamedDifference,
    ResultFacts,
    SideBySide,
)
from slicemill.core.splits import LEAKY, refuse_leaky
from slicemill.core.training.records import SegmentationMetrics
from slicemill.errors import InputError
from slicemill.experiments.evaluate import slices_by_patient
from slicemill.experiments.facts import model_facts, total_seconds
from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.machine import command, describe
from slicemill.io.places import Run, Scores
from slicemill.io.run.card import card_uri, load_card
from slicemill.io.run.record import read_run
from slicemill.io.scores.folder import model_suffix
from slicemill.io.scores.results import read_scores
from slicemill.io.storage.uri import canonical, display, join, stored_uri
from slicemill.pages.comparison import as_html, as_markdown
from slicemill.schemas import SCHEMA_VERSION
from slicemill.types import Uri

#: What a result is judged on. Numbers of different kinds are not subtracted from each other.
OUT_OF_FOLD, SCORED, VALIDATION = "out of fold", "scored patients", "validation"
#: In its place where the model has seen other slices of the same patients, on purpose.
LEAKING = "LEAKING"


@dataclass(frozen=True)
class Result:
    """A run as far as it is compared: its facts, and values by patient.

    `rows` and `accuracy` are of patients that the model has not seen, `seen` are rows of the others.
    """

    judged_on: str
    facts: ResultFacts
    rows: Sequence[ScanScore] = ()
    accuracy: Mapping[str, float] = field(default_factory=dict)
    seen: Sequence[ScanScore] = ()

    def by_patient(self, metric: Metric) -> Mapping[str, float]:
        """What differences are of: Dice, or a classifier's accuracy."""
        if self.facts.model.task == "classify":
            return self.accuracy
        return patient_means(self.rows, metric)


def run(config: CompareConfig) -> dict[str, Any]:
    """Compare, write the three files and return the summary; no Spark session is needed.

    Raises InputError for a folder that holds no result.
    """
    out = canonical(config.out)
    results = {name: read_result(canonical(uri)) for name, uri in config.named().items()}
    for name, result in results.items():
        if not config.show_leak:
            refuse_leaky(result.facts.model.split, name)
    comparison = SideBySide(
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        **describe(),
        command=command(),
        metric=config.metric,
        runs=tuple(_line(name, result) for name, result in results.items()),
        differences=tuple(differences(results, config.metric)),
    )
    stored = {"schema_version": SCHEMA_VERSION, **comparison.to_json()}
    storage.write_json(join(out, "compare.json"), stored)
    storage.write_bytes(join(out, "compare.md"), as_markdown(comparison).encode())
    storage.write_bytes(join(out, "compare.html"), as_html(comparison))
    return {
        "job": "compare",
        "status": "done",
        "runs": len(results),
        "differences": len(comparison.differences),
        "out": display(out),
    }


def _line(name: str, result: Result) -> ComparedRun:
    patients = {row.patient_id for row in result.rows} or set(result.accuracy)
    return ComparedRun(
        name=name,
        judged_on=result.judged_on,
        patients=len(patients),
        mean_patient_dice=patient_interval(result.rows, "dice"),
        slice_mean_dice=patient_interval(result.rows, "slice_mean_dice"),
        seen_patients=len({row.patient_id for row in result.seen}),
        mean_patient_dice_of_seen=patient_interval(result.seen, "dice"),
        facts=result.facts,
    )


def differences(results: Mapping[str, Result], metric: Metric) -> list[NamedDifference]:
    """Each pair of results that can be compared, over the patients that both have, first minus second."""
    pairs = []
    for (first, ours), (second, theirs) in itertools.combinations(results.items(), 2):
        our_values, their_values = ours.by_patient(metric), theirs.by_patient(metric)
        comparable = ours.facts.model.task == theirs.facts.model.task and (
            ours.judged_on == theirs.judged_on or {ours.judged_on, theirs.judged_on} == {OUT_OF_FOLD, LEAKING}
        )
        if comparable and our_values.keys() & their_values.keys():
            of = metric if ours.facts.model.task == "segment" else "patient_accuracy"
            pairs.append(NamedDifference(first, second, of, paired_difference(our_values, their_values)))
    return pairs


def read_result(uri: Uri) -> Result:
    """The result at a canonical URI: of cross-validation, of scoring, or of a training run alone."""
    if storage.exists(join(uri, "crossval.json")):
        return _crossval(_stored(join(uri, "crossval.json"), "machine"))
    if storage.exists(Scores(uri).card):
        return _scores(uri)
    if storage.exists(card_uri(uri)):
        return _run(uri)
    raise InputError(
        f"{display(uri)} holds no result",
        expected="a folder that crossval, score or train finished",
        found="none of crossval.json, scores.json and model.json",
    )


def _stored(uri: Uri, newest: str) -> dict[str, Any]:
    """A result's JSON; raise InputError if an earlier release wrote it, which did not tell enough."""
    stored: dict[str, Any] = storage.read_json(uri)
    if newest not in stored:
        raise InputError(
            f"{display(uri)} is of an earlier release",
            expected=f"{newest} in it",
            found="none",
            advice="Run the same command again: what is done stays, and the file is written anew.",
        )
    return stored


def _crossval(stored: Mapping[str, Any]) -> Result:
    folds: list[Mapping[str, Any]] = stored["folds"]
    split: str = stored["split"]
    models = [ModelFacts.from_json({**fold, "split": split}) for fold in folds]
    speeds = [fold["scoring_slices_per_second"] for fold in folds]
    measured = [speed for speed in speeds if speed]
    facts = ResultFacts(
        model=dataclasses.replace(
            models[0], training_seconds=total_seconds([model.training_seconds for model in models])
        ),
        trained_models=len(folds),
        scoring_slices_per_second=sum(measured) / len(measured) if measured else None,
        data_hash=stored["data_hash"],
        slice_accuracy=_interval(stored.get("slice_accuracy")),
        slice_auroc=_interval(stored.get("slice_auroc")),
        made_on=stored["machine"],
        command=stored["command"],
    )
    judged_on = LEAKING if split.startswith(LEAKY) else OUT_OF_FOLD
    return Result(judged_on, facts, _rows(stored["out_of_fold"]), stored.get("patient_accuracy", {}))


def _interval(stored: Mapping[str, float | None] | None) -> Interval | None:
    return None if stored is None else Interval(**stored)  # type: ignore[arg-type]  # a value is never null


def _rows(stored: Sequence[Mapping[str, Any]]) -> list[ScanScore]:
    """Rows of the patients table from what crossval.json holds of them."""
    names = [field.name for field in dataclasses.fields(ScanScore)]
    return [ScanScore(**{name: row[name] for name in names if name in row}) for row in stored]


def _scores(uri: Uri) -> Result:
    tables = read_scores(uri, None, leaky=True)
    summary = Scores(uri).summary(model_suffix(uri, tables.model_id))
    stored = _stored(summary, "model")
    model, threshold = ModelFacts.from_json(stored["model"]), stored["threshold"]
    facts = ResultFacts(model, 1, stored["slices_per_second"])
    unseen_rows, seen_rows = unseen_and_seen(tables.scans)
    if model.task != "classify":
        return Result(SCORED, facts, unseen_rows, seen=seen_rows)
    slices = slices_by_patient(uri, unseen_rows)
    facts = dataclasses.replace(facts, **vars(slice_summary(slices, threshold)))
    return Result(SCORED, facts, unseen_rows, patient_accuracy(slices, threshold), seen_rows)


def _run(uri: Uri) -> Result:
    """A training run by its own validation part: the Dice that its epoch was chosen by."""
    card = load_card(uri)
    facts = ResultFacts(model_facts(uri, card), 1, None, data_hash=card.data_hash)
    if card.task == "classify":
        accuracy, auroc = (_bare(card.metrics.get(name)) for name in ("val_accuracy", "val_auroc"))
        return Result(VALIDATION, dataclasses.replace(facts, slice_accuracy=accuracy, slice_auroc=auroc))
    epoch = card.metrics["epoch"]
    best = next((line for line in read_run(uri, leaky=True).epochs if line.epoch == epoch), None)
    if best is None or not isinstance(best.validation, SegmentationMetrics):
        raise InputError(
            f"{display(uri)} lacks its metrics",
            expected=f"epoch {epoch} in {display(Run(uri).metrics)}",
            found="none",
            advice="Copy the whole run folder.",
        )
    patients = {row.scan_id: row.patient_id for row in read_scans(stored_uri(card.training["lake"]))}
    rows = [ScanScore(patients[scan], scan, dice=dice) for scan, dice in best.validation.dice_by_scan.items()]
    return Result(VALIDATION, facts, rows)


def _bare(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, None, None)
