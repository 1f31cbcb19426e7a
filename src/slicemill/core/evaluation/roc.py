"""How well a number tells two classes apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slicemill.types import Floats

Labels = npt.NDArray[np.bool_]


def roc_curve(truth: Labels, score: Floats) -> tuple[Floats, Floats, float]:
    """False and true positive rates over all thresholds of `score`, and the area below.

    Both rates run from 0 to 1; equal scores are one step. Raises ValueError unless both classes occur and
    the arrays have one length.
    """
    positives = int(np.count_nonzero(truth))
    if truth.shape != score.shape or not 0 < positives < truth.size:
        raise ValueError(
            f"roc: expected both classes and equal lengths, found {positives} of {truth.size} positive, "
            f"{score.size} scores"
        )
    order = np.argsort(-score, kind="stable")
    hits = truth[order]
    last = np.append(np.flatnonzero(np.diff(score[order])), truth.size - 1)
    true_rate = np.append(0.0, np.cumsum(hits)[last] / positives)
    false_rate = np.append(0.0, np.cumsum(~hits)[last] / (truth.size - positives))
    return false_rate, true_rate, float(np.trapezoid(true_rate, false_rate))
