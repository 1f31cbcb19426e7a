"""Whether the shape of a tumour goes with a clinical column: tests, effect sizes, corrections.

Source: Buda, Saha and Mazurowski (2019) test the association of three shape features with genomic clusters by
Fisher's exact test on the feature's median split. A rank test beside it uses the whole feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from slicemill.core.results.association_result import MIN_GROUP, Association
from slicemill.types import Floats

#: Patients of the smallest sample that is tested.
MIN_PATIENTS = 8
#: Random tables of Fisher's test beyond two by two, and bootstrap samples of an effect.
_TABLES, _SAMPLES = 9_999, 500
_LEVEL = 0.95

Groups = npt.NDArray[np.int64]


def associations(
    features: Mapping[str, Mapping[str, float]], outcomes: Mapping[str, Mapping[str, str]], seed: int = 0
) -> list[Association]:
    """Every feature against every outcome, corrected for the number of tests.

    `features`: value by patient, by the feature's name. `outcomes`: group by patient, by the column's name.
    Pairs with fewer than two groups of two patients, or fewer than eight patients, are left out.
    """
    tests = [
        test
        for feature, values in features.items()
        for outcome, groups in outcomes.items()
        if (test := associate(feature, values, outcome, groups, seed)) is not None
    ]
    return _corrected(tests)


def associate(
    feature: str, values: Mapping[str, float], outcome: str, groups: Mapping[str, str], seed: int = 0
) -> Association | None:
    """One feature against one outcome; None if there is too little to test."""
    counts: dict[str, int] = {}
    for patient in values:
        if patient in groups:
            counts[groups[patient]] = counts.get(groups[patient], 0) + 1
    names = sorted(name for name, count in counts.items() if count >= MIN_GROUP)
    patients = sorted(patient for patient in values if groups.get(patient) in names)
    if len(names) < 2 or len(patients) < MIN_PATIENTS:
        return None
    sample = np.array([values[patient] for patient in patients])
    group = np.array([names.index(groups[patient]) for patient in patients], np.int64)
    low, high = _effect_interval(sample, group, seed)
    return Association(
        feature,
        outcome,
        patients=len(patients),
        missing=len(values) - len(patients),
        groups=len(names),
        fisher_p=_fisher(sample, group, seed),
        rank_p=float(stats.kruskal(*(sample[group == index] for index in range(len(names)))).pvalue),
        effect=float(_effects(sample[None], group[None])[0]),
        effect_low=low,
        effect_high=high,
    )


def _fisher(sample: Floats, group: Groups, seed: int) -> float:
    above = sample > np.median(sample)
    table = np.array(
        [[np.sum((group == index) & (above == half)) for index in np.unique(group)] for half in (0, 1)]
    )
    if not table.sum(axis=1).all():
        # The median split puts every patient on one side: it says nothing.
        return 1.0
    if table.shape == (2, 2):
        return float(stats.fisher_exact(table).pvalue)
    method = stats.MonteCarloMethod(n_resamples=_TABLES, rng=np.random.default_rng(seed))
    return float(stats.fisher_exact(table, method=method).pvalue)


def _effects(samples: Floats, groups: Groups) -> Floats:
    """Epsilon squared, H / (n - 1), of each row of samples and of their groups."""
    ranks = stats.rankdata(samples, axis=1)
    count = samples.shape[1]
    between = np.zeros(len(samples))
    for index in range(int(groups.max()) + 1):
        inside = groups == index
        sizes = inside.sum(axis=1)
        sums = np.where(inside, ranks, 0).sum(axis=1)
        between += np.divide(sums**2, sizes, out=np.zeros(len(samples)), where=sizes > 0)
    statistic = 12 / (count * (count + 1)) * between - 3 * (count + 1)
    effects: Floats = np.clip(statistic / (count - 1), 0, 1)
    return effects


def _effect_interval(sample: Floats, group: Groups, seed: int) -> tuple[float, float]:
    draws = np.random.default_rng(seed).integers(0, len(sample), (_SAMPLES, len(sample)))
    effects = _effects(sample[draws], group[draws])
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(effects, [tail, 1 - tail])
    return float(low), float(high)


def corrections(chances: Sequence[float]) -> list[tuple[float, float]]:
    """Each p corrected for all of them: Bonferroni's, and Benjamini and Hochberg's."""
    if not chances:
        return []
    p = np.array(chances)
    pairs = zip(np.minimum(p * len(p), 1), stats.false_discovery_control(p), strict=True)
    return [(float(bonferroni), float(false_discovery)) for bonferroni, false_discovery in pairs]


def _corrected(tests: Sequence[Association]) -> list[Association]:
    fisher = corrections([test.fisher_p for test in tests])
    rank = corrections([test.rank_p for test in tests])
    return [
        replace(
            test,
            fisher_bonferroni=of_fisher[0],
            fisher_false_discovery=of_fisher[1],
            rank_bonferroni=of_rank[0],
            rank_false_discovery=of_rank[1],
        )
        for test, of_fisher, of_rank in zip(tests, fisher, rank, strict=True)
    ]
