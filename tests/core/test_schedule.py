from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicemill.core.training.schedule import SCHEDULES, WARM_UP, InputSizes, Span, budget_span, epoch_span


def test_one_cycle_rises_to_its_peak_and_falls_to_nothing() -> None:
    rate = SCHEDULES["one-cycle"]

    assert [rate(at) for at in (0.0, WARM_UP / 2, WARM_UP, 1.0)] == pytest.approx([0.04, 0.52, 1.0, 1e-5])
    falling = [rate(WARM_UP + (1 - WARM_UP) * step / 10) for step in range(11)]
    assert falling == sorted(falling, reverse=True)


def test_cosine_is_half_way_down_in_the_middle_and_constant_stays() -> None:
    assert SCHEDULES["cosine"](0.03 + 0.97 / 2) == pytest.approx(0.5, abs=1e-4)
    assert SCHEDULES["cosine"](0.0) == pytest.approx(0.04)
    assert {SCHEDULES["constant"](step / 7) for step in range(8)} == {1.0}


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 1))
def test_a_rate_is_never_above_its_peak_nor_zero(name: str, progress: float) -> None:
    assert 0 < SCHEDULES[name](progress) <= 1


def test_epochs_share_progress_equally() -> None:
    assert [epoch_span(epoch, 4) for epoch in range(5)] == [
        Span(0.0, 0.25),
        Span(0.25, 0.5),
        Span(0.5, 0.75),
        Span(0.75, 1.0),
        None,
    ]
    assert Span(0.25, 0.5).at(1, 4) == 0.3125


@pytest.mark.parametrize(
    ("epochs", "sizes"), [(1, [192]), (2, [96, 192]), (3, [96, 192, 192]), (4, [96, 96, 192, 192])]
)
def test_the_first_half_of_a_run_takes_the_first_size(epochs: int, sizes: list[int]) -> None:
    assert [
        InputSizes(96, 192).during(Span(epoch / epochs, (epoch + 1) / epochs)) for epoch in range(epochs)
    ] == sizes


@given(st.floats(0.5, 500), st.lists(st.floats(0.7, 1.4), min_size=60, max_size=60))
def test_a_budget_ends_in_time_and_so_does_its_schedule(epochs_that_fit: float, pace: list[float]) -> None:
    # A machine whose epochs take between 0.7 and 1.4 of a minute each; the pace is that of the epoch before.
    budget, spent, progress, seconds, done = 60.0 * min(epochs_that_fit, 50), 0.0, 0.0, 60.0, 0
    while (span := budget_span(progress, budget - spent, seconds)) is not None:
        assert span.start == progress < span.end <= 1
        seconds = 60.0 * pace[done % len(pace)]
        spent, progress, done = spent + seconds, span.end, done + 1

    assert done >= 1
    # At most one epoch was slower than the one that it was planned by.
    assert spent <= max(budget + 60.0 * 0.7 + 3, 84.0)


def test_a_steady_machine_uses_its_budget_up() -> None:
    spent, progress, done = 0.0, 0.0, 0
    while (span := budget_span(progress, 100.0 - spent, 10.0)) is not None:
        spent, progress, done = spent + 10.0, span.end, done + 1

    assert (done, progress) == (10, pytest.approx(1.0))


def test_less_than_an_epoch_still_gets_one_with_the_whole_schedule() -> None:
    assert budget_span(0.0, 3.0, 60.0) == Span(0.0, 1.0)
    assert budget_span(1.0, 3.0, 60.0) is None
