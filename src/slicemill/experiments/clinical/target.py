"""A clinical column predicted from the shape of tumours: logistic regression, cross-validated by patient.

Few patients make it easy to find what is not there. So nothing is tuned, each patient is predicted by a model
that was fitted on others, classes that are too small are left out and counted, and the whole cross-validation
is repeated on labels that were dealt out at random (M. Ojala, G. Garriga, Permutation tests for studying
classifier performance, Journal of Machine Learning Research 11, 2010).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.intervals import grouped_interval
from slicemill.core.evaluation.roc import roc_curve
from slicemill.core.results.target_result import ClassCount, Target, TargetRefusal, TargetResult
from slicemill.types import Floats

#: Folds, and thereby the patients that a class needs; patients that all classes need together.
FOLDS, MIN_PATIENTS = 5, 20
#: Dealings of the labels, and weight of the squared coefficients in the loss of a patient.
PERMUTATIONS, PENALTY = 200, 0.05
_RESAMPLES = 500
#: Newton's steps, and what keeps a free intercept's curvature above 0.
_STEPS, _RIDGE = 10, 1e-9

Labels = npt.NDArray[np.int64]


def predict_target(
    column: str, features: Mapping[str, Floats], labels: Mapping[str, str], seed: int = 0
) -> Target:
    """Predict a column out of fold.

    `features`: by patient, axes (F,); `labels`: the column's value by patient, empty cells left out. The same
    arguments give the same result.
    """
    label_of = {patient: labels[patient] for patient in sorted(features) if patient in labels}
    counts = {name: list(label_of.values()).count(name) for name in sorted(set(label_of.values()))}
    names = [name for name, count in counts.items() if count >= FOLDS]
    patients = [patient for patient, name in label_of.items() if name in names]
    if len(names) < 2 or len(patients) < MIN_PATIENTS:
        sizes = ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
        return TargetRefusal(
            column,
            f"{MIN_PATIENTS} patients in two classes of {FOLDS} are needed; patients by class: {sizes}",
        )
    sample = np.stack([features[patient] for patient in patients])
    truth = np.array([names.index(label_of[patient]) for patient in patients], np.int64)
    random = np.random.default_rng(seed)
    probability = out_of_fold_probability(sample, truth, random)
    area = macro_auroc(probability, truth)
    areas_at_random = []
    for _ in range(PERMUTATIONS):
        labels_at_random = random.permutation(truth)
        probability_at_random = out_of_fold_probability(sample, labels_at_random, random)
        areas_at_random.append(macro_auroc(probability_at_random, labels_at_random))
    groups = [np.append(row, label)[None] for row, label in zip(probability, truth, strict=True)]
    return TargetResult(
        column=column,
        patients=len(patients),
        missing=len(features) - len(patients),
        classes=tuple(ClassCount(name, counts[name]) for name in names),
        folds=FOLDS,
        auroc=grouped_interval(groups, _area_of_rows, resamples=_RESAMPLES, seed=seed),
        accuracy=float(np.mean(probability.argmax(axis=1) == truth)),
        majority=max(counts[name] for name in names) / len(patients),
        permutations=PERMUTATIONS,
        permuted_auroc=float(np.mean(areas_at_random)),
        p_value=(1 + sum(value >= area for value in areas_at_random)) / (1 + PERMUTATIONS),
    )


def out_of_fold_probability(sample: Floats, truth: Labels, random: np.random.Generator) -> Floats:
    """Probability of each class, axes (N, classes), by models fitted on the other folds; a row's sum is 1.

    `sample`: axes (N, F). Each class is dealt out over the folds evenly. Features are scaled by the mean and
    standard deviation of the patients that a model is fitted on.
    """
    classes = int(truth.max()) + 1
    fold = np.empty(len(truth), np.int64)
    for label in range(classes):
        members = random.permutation(np.flatnonzero(truth == label))
        fold[members] = (np.arange(len(members)) + label) % FOLDS
    probability = np.empty((len(truth), classes))
    for number in range(FOLDS):
        inside = fold != number
        mean, spread = sample[inside].mean(axis=0), sample[inside].std(axis=0)
        scaled = (sample - mean) / np.where(spread > 0, spread, 1)
        weights = _fit(scaled[inside], truth[inside], classes)
        share = 1 / (1 + np.exp(-_with_one(scaled[~inside]) @ weights))
        probability[~inside] = share / share.sum(axis=1, keepdims=True)
    return probability


def _fit(sample: Floats, truth: Labels, classes: int) -> Floats:
    """Weights of logistic regressions, one class against the rest each, axes (F + 1, classes)."""
    inputs = _with_one(sample)
    # The intercept is free.
    penalty = np.full(inputs.shape[1], PENALTY)
    penalty[-1] = 0
    return np.stack([_newton(inputs, truth == label, penalty) for label in range(classes)], axis=1)


def _newton(inputs: Floats, member: npt.NDArray[np.bool_], penalty: Floats) -> Floats:
    """Weights of one regression with squared coefficients, by Newton's steps from zero."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        share = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (share - member) / len(member) + penalty * weights
        curve = (inputs.T * (share * (1 - share))) @ inputs / len(member) + np.diag(penalty + _RIDGE)
        weights -= np.linalg.solve(curve, slope)
    return weights


def _with_one(sample: Floats) -> Floats:
    return np.concatenate([sample, np.ones((len(sample), 1))], axis=1)


def macro_auroc(probability: Floats, truth: Labels) -> float:
    """Mean over classes of the area under the ROC curve, one class against the rest.

    nan unless every class occurs, and another beside it.
    """
    areas = [
        roc_curve(truth == label, probability[:, label])[2]
        if 0 < np.sum(truth == label) < len(truth)
        else np.nan
        for label in range(probability.shape[1])
    ]
    return float(np.mean(areas))


def _area_of_rows(rows: Floats) -> float:
    return macro_auroc(rows[:, :-1], rows[:, -1].astype(np.int64))
