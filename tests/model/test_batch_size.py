from __future__ import annotations

from pathlib import Path

import pytest

from slicemill.io.storage import node_cache
from slicemill.model.predicting.batch_size import CANDIDATES, fastest


def clock_of(costs: dict[int, float]) -> tuple[list[int], object, object]:
    """A run and a clock by which a batch size costs what is written here."""
    now, sizes = [0.0], []

    def run(size: int) -> None:
        sizes.append(size)
        now[0] += costs[size]

    return sizes, run, lambda: now[0]


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({1: 1.0, 2: 1.2, 4: 1.4, 8: 1.6}, 1),
        ({1: 2.0, 2: 1.0, 4: 1.4, 8: 1.6}, 2),
        # A difference of 1 % is noise: the usual size stays.
        ({1: 0.99, 2: 1.0, 4: 1.0, 8: 1.0}, 8),
    ],
)
def test_the_batch_size_that_takes_least_time_is_taken(costs: dict[int, float], expected: int) -> None:
    sizes, run, clock = clock_of(costs)
    assert fastest(run, usual=8, clock=clock) == expected
    assert set(sizes) == set(CANDIDATES)


def test_a_node_makes_a_thing_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(node_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    made = []

    def make() -> bytes:
        made.append(1)
        return b"8"

    assert [node_cache.read_or_make("size", make) for _ in range(3)] == [b"8"] * 3
    assert made == [1]
