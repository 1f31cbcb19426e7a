"""What a run records survives JSON, in the form that earlier releases wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicemill.core.training.records import (
    ClassificationMetrics,
    EpochLine,
    RankFailure,
    SegmentationMetrics,
    format_epochs,
    parse_epochs,
)
from slicemill.core.training.schedule import InputSizes
from slicemill.core.training.state import RunState

_number = st.floats(-1e6, 1e6)
_maybe = st.none() | _number
_metrics = st.builds(SegmentationMetrics, dice=_maybe, dice_by_scan=st.dictionaries(st.text(), _number)) | (
    st.builds(ClassificationMetrics, accuracy=_maybe, auroc=_maybe)
)
_lines = st.lists(
    st.builds(EpochLine, st.integers(1, 99), _number, _metrics, image_size=st.integers(32, 512)), max_size=4
)


@given(_lines)
def test_epochs_survive_metrics_jsonl(lines: list[EpochLine]) -> None:
    assert parse_epochs(format_epochs(lines)) == tuple(lines)


@given(_lines, st.none() | st.builds(InputSizes, st.just(64), st.just(128)))
def test_a_state_survives_a_checkpoint(lines: list[EpochLine], sizes: InputSizes | None) -> None:
    state = RunState(len(lines), 0.5, 9.0, tuple(lines), sizes)

    assert RunState.from_json(state.to_json()) == state


def test_a_loss_is_stored_where_it_is_known() -> None:
    metrics = ClassificationMetrics(0.5, None, loss=0.25)
    line = EpochLine(1, 2.0, metrics)

    assert line.to_json()["val_loss"] == 0.25
    assert "val_loss" not in EpochLine(1, 2.0).to_json()
    assert parse_epochs(format_epochs([line])) == (line,)


def test_a_line_of_an_earlier_release_keeps_its_names() -> None:
    line = (
        '{"epoch": 2, "image_size": 64, "learning_rate": 0.001, "lost_steps": 0, "seconds": 1.5,'
        ' "slices": 19, "slices_per_second": 12.7, "train_loss": 0.5, "val_dice": 0.25,'
        ' "val_dice_by_scan": {"a": 0.25}}\n'
    )

    (epoch,) = parse_epochs(line)

    assert epoch.validation == SegmentationMetrics(0.25, {"a": 0.25})
    assert format_epochs([epoch]) == line


def test_what_a_line_lacks_or_has_besides_is_no_fault() -> None:
    (epoch,) = parse_epochs('{"epoch": 1, "train_loss": 2.0, "val_accuracy": 0.5, "val_other": 1, "new": 3}')

    assert epoch == EpochLine(1, 2.0, ClassificationMetrics(accuracy=0.5))


@pytest.mark.parametrize("text", ["{", "[1]", '{"epoch": 1}'])
def test_text_that_holds_no_epochs_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_epochs(text)


def test_a_failure_of_another_release_is_read() -> None:
    failure = RankFailure.from_json({"kind": "OSError", "message": "gone", "rank": 1, "since": "later"})

    assert failure == RankFailure("OSError", "gone", 1)
