from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lock_holder import held_fence

from slicemill.core.engine import EngineFacts
from slicemill.core.evaluation.options import PredictionOptions
from slicemill.core.scans.normalise import RULE_NAMES
from slicemill.core.scans.scan import SEQUENCES, Scan, Slice
from slicemill.experiments.evaluate import evaluate
from slicemill.io.raw.tiff import count_values
from slicemill.io.run.card import Card
from slicemill.io.scores.tables import publish, slice_rows
from slicemill.io.scores.writer import ScoreWriter
from slicemill.io.storage.uri import canonical
from slicemill.model.predicting.batches import Prediction
from slicemill.model.predicting.scoring import scan_output
from slicemill.model.predicting.settings import ScoreSettings

TORCH = EngineFacts("torch", "2", "fp32")
SETTINGS = ScoreSettings(canonical("/run"), "m", 0.5)


def card(task: str) -> Card:
    return Card(
        task=task,
        architecture="any",
        channels=SEQUENCES,
        normalisation=RULE_NAMES["volume"],
        input_size=32,
        threshold=0.5,
        split="none",
        split_hash="0",
        data_hash="0",
        metrics={},
        versions={},
        training={},
        weights_sha256="ab" * 32,
    )


def scan(name: str, tumours: list[bool | None]) -> Scan:
    """Slices with tumour, without, or without truth."""
    random = np.random.default_rng(len(tumours))
    slices = []
    for index, tumour in enumerate(tumours):
        image = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        mask = None if tumour is None else np.full((8, 8), tumour, np.uint8)
        status = "absent" if mask is None else "present"
        slices.append(Slice(index + 1, image, mask, count_values(image), status, ""))
    return Scan(name, name, tuple(slices), ())


def test_a_classifiers_scores_are_probabilities_without_masks(tmp_path: Path) -> None:
    home = canonical(str(tmp_path))
    writer = ScoreWriter(held_fence(home), "masks", "model", "job")
    given = {
        "a": ([True, False, None, True], [0.9, 0.6, 0.2, 0.4]),
        "b": ([False, True], [0.1, 0.8]),
    }
    for name, (tumours, peaks) in given.items():
        one = scan(name, tumours)
        prediction = Prediction(None, np.array(peaks, np.float32))
        writer.write(scan_output(one, prediction, card("classify"), SETTINGS, TORCH), "f", "key", ())

    rows = publish(home)

    assert not (tmp_path / "masks").exists()
    for row, labelled, volume in zip(rows, (3, 2), (128, 64), strict=True):
        assert (row.dice, row.predicted_volume) == (None, None)
        assert (row.labelled_slices, row.true_volume) == (labelled, volume)
    slices = slice_rows(home, rows[0], ("mask", "tumour_pixels", "true_pixels", "max_probability"))
    assert [one.true_pixels for one in slices] == [64, 0, None, 64]
    assert {(one.mask, one.tumour_pixels) for one in slices} == {(None, None)}
    assert [one.max_probability for one in slices] == pytest.approx([0.9, 0.6, 0.2, 0.4])
    found = evaluate(home, rows, 0.5, classifier=True)
    assert found.slices is not None
    assert (found.slices.slices_with_truth, found.unseen.mean_patient_dice) == (5, None)
    assert found.slices.slice_accuracy.value == pytest.approx(3 / 5)
    # 0.9 and 0.8 beat both healthy slices, 0.4 beats one of two.
    assert found.slices.slice_auroc.value == pytest.approx(5 / 6)


def test_the_largest_component_is_kept_if_asked() -> None:
    one = scan("a", [True, False])
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, :2, :2] = masks[1, 7, 7] = 1
    prediction = Prediction(masks, np.zeros(2, np.float32))
    plain = scan_output(one, prediction, card("segment"), SETTINGS, TORCH)
    kept = scan_output(
        one,
        prediction,
        card("segment"),
        replace(SETTINGS, options=PredictionOptions(largest_component=True)),
        TORCH,
    )
    assert (plain.score.predicted_volume, kept.score.predicted_volume) == (5, 4)
    assert kept.score.options == ("largest-component",)
    assert tuple(one.dice for one in plain.slices) == (pytest.approx(8 / 68), 0.0)
    assert tuple(one.dice for one in kept.slices) == (pytest.approx(8 / 68), 1.0)


def test_a_scan_without_a_usable_slice_says_so() -> None:
    empty = Scan("a", "a", (), ())
    found = scan_output(empty, Prediction(None, np.zeros(0, np.float32)), card("segment"), SETTINGS, TORCH)
    assert found.score.warnings == ("no usable slice",)
    assert found.score.predicted_volume == 0
