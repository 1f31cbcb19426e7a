"""How often slices come: quotas are met exactly, and every slice comes in the end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicemill.config import TrainConfig
from slicemill.core.training.sampling import Sampling, patient_quotas
from slicemill.errors import ConfigError

_scans = st.lists(st.booleans(), min_size=1, max_size=40).map(lambda kinds: np.array(kinds, dtype=bool))
_sampling = st.builds(
    Sampling,
    st.just(1),
    st.integers(0, 90),
    st.none() | st.floats(0, 1),
) | st.builds(Sampling, st.integers(1, 4))


@given(_scans, _sampling, st.integers(0, 9))
def test_a_scan_gives_exactly_the_slices_that_the_plan_counts_on(
    tumour: np.ndarray, sampling: Sampling, epoch: int
) -> None:
    times = sampling.times(tumour, "scan", seed=0, epoch=epoch)

    assert times.sum() == sampling.draws(len(tumour), int(tumour.sum()))
    assert (times >= 0).all()
    assert (times == sampling.times(tumour, "scan", seed=0, epoch=epoch)).all()


@given(_scans, st.integers(1, 30))
def test_no_slice_comes_twice_as_long_as_another_of_its_kind_waits(tumour: np.ndarray, quota: int) -> None:
    times = Sampling(quota=quota, tumour_share=0.5).times(tumour, "scan", seed=0, epoch=0)

    for kind in (tumour, ~tumour):
        assert np.ptp(times[kind]) <= 1 if kind.any() else True


def test_the_share_of_tumour_is_the_one_asked_for_where_a_scan_has_both() -> None:
    tumour = np.array([True] * 2 + [False] * 18)

    times = Sampling(quota=12, tumour_share=1 / 3).times(tumour, "scan", seed=0, epoch=0)

    assert (times[tumour].sum(), times[~tumour].sum()) == (4, 8)
    only = Sampling(quota=12, tumour_share=1 / 3).times(~tumour[2:], "scan", seed=0, epoch=0)
    assert only.sum() == 12


def test_every_slice_of_a_long_scan_comes_in_the_end() -> None:
    tumour = np.zeros(40, dtype=bool)
    seen = sum(Sampling(quota=10).times(tumour, "scan", seed=0, epoch=epoch) for epoch in range(40))

    assert seen.min() > 0


def test_patients_come_equally_often_whatever_their_slices() -> None:
    # Patient A has two scans of 60 and 20 slices, B one of 20, C one of 40: 140 slices, 46.7 a patient.
    quotas = patient_quotas(["A", "A", "B", "C"], [60, 20, 20, 40])

    assert quotas == [35, 12, 47, 47]
    assert patient_quotas(["A", "B"], [0, 3]) == [0, 2]


def test_quotas_and_oversampling_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--oversample has no meaning where scans have quotas"):
        TrainConfig(lake="lake", split="split", out="out", oversample=2, sampling="patients")
    with pytest.raises(ConfigError, match="--tumour-share is out of range"):
        TrainConfig(lake="lake", split="split", out="out", tumour_share=1.5)
