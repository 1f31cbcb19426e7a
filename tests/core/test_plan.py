from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from slicemill.config import TrainConfig
from slicemill.core.training.plan import LabelledFile, TrainPlan, balance, labelled_slices, steps_per_epoch

FILES = st.lists(st.integers(0, 90), min_size=1, max_size=60).map(
    lambda counts: [LabelledFile(f"scan{at}", f"file:///lake/{at}", count) for at, count in enumerate(counts)]
)


@given(FILES, st.integers(1, 9), st.randoms())
def test_every_labelled_file_is_in_exactly_one_share_whatever_the_order(files, ranks, random) -> None:
    shares = balance(files, ranks)

    assert len(shares) == ranks
    assert sorted(file for share in shares for file in share) == sorted(
        file for file in files if file.labelled_slices
    )
    random.shuffle(files)
    assert balance(files, ranks) == shares


@given(FILES, st.integers(1, 9))
def test_without_its_smallest_file_the_heaviest_share_is_no_heavier_than_the_lightest(files, ranks) -> None:
    shares = sorted(balance(files, ranks), key=labelled_slices)

    spare = min((file.labelled_slices for file in shares[-1]), default=0)
    assert labelled_slices(shares[-1]) - spare <= labelled_slices(shares[0])


@given(FILES, st.integers(1, 9), st.integers(1, 16))
def test_the_steps_hold_every_slice_of_every_rank_and_not_a_whole_step_more(files, ranks, batch) -> None:
    shares = balance(files, ranks)
    steps = steps_per_epoch(shares, batch)

    loads = [labelled_slices(share) for share in shares]
    assert all(load <= steps * batch for load in loads)
    assert steps * batch - max(loads) < batch


def test_known_shares() -> None:
    files = [
        LabelledFile(name, f"s3://lake/{name}", count)
        for name, count in (("a", 5), ("b", 4), ("c", 3), ("d", 2))
    ]

    first, second = balance(files, 2)

    assert [file.scan_id for file in first] == ["a", "d"]
    assert [file.scan_id for file in second] == ["b", "c"]


@given(
    FILES,
    st.integers(1, 4),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4),
)
def test_a_plan_survives_json(files, ranks, numbers) -> None:
    plan = TrainPlan(
        settings=TrainConfig(
            lake="s3://lake", split="demo", out="s3://run", batch_size=12, num_processes=ranks
        ),
        train=balance(files, ranks),
        validation=balance([], ranks),
        normalisation={"scan0": [numbers]},
        split_hash="ab",
        data_hash="cd",
        threads=2,
    )

    assert TrainPlan.from_json(plan.to_json()) == plan
    assert plan.ranks == ranks
    assert plan.batch_per_rank == 12 // ranks


def test_no_file_gives_empty_shares() -> None:
    assert balance([], 3) == ((), (), ())
    assert steps_per_epoch(((), ()), 4) == 0


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_fewer_files_than_ranks_leave_ranks_empty(ranks: int) -> None:
    shares = balance([LabelledFile("a", "file:///a", 1)], ranks)

    assert sorted(len(share) for share in shares) == [0] * (ranks - 1) + [1]
