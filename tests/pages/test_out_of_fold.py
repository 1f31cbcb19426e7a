"""The page of a cross-validation, from rows alone."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.results.out_of_fold import out_of_fold
from slicemill.experiments.out_of_fold import worst_csv
from slicemill.pages.out_of_fold import as_html

COUNTS = {
    "voxels_by_probability": (80, *[0] * 18, 20),
    "tumour_by_probability": (2, *[0] * 18, 18),
}


def rows(public: bool) -> dict[int, list[ScanScore]]:
    prefix = "TCGA_" if public else "=SITE_"
    return {
        fold: [
            ScanScore(
                f"{prefix}{fold}{place}",
                f"{prefix}{fold}{place}",
                dice=0.9 - 0.4 * place,
                slices=3,
                labelled_slices=3,
                predicted_volume=20,
                true_volume=20,
                missed_voxels=5 * place,
                false_voxels=1,
                border_voxels=2,
                expected_dice=0.95 - 0.5 * place,
                look_first=("the model expects a Dice of 0.45",) * place,
                model_id=f"model{fold}",
                **COUNTS,
            )
            for place in range(2)
        ]
        for fold in range(2)
    }


def words(page: bytes) -> str:
    return re.sub(
        r"\s+", " ", re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", page.decode(), flags=re.DOTALL)
    )


def test_the_page_says_what_triage_is_worth_and_why_the_worst_are_bad() -> None:
    folds = rows(public=True)
    everyone = [row for of_fold in folds.values() for row in of_fold]
    result = out_of_fold(folds, {})
    text = words(as_html(result, everyone, "five", "X/worst.csv", datetime(2026, 1, 2, tzinfo=UTC)))
    assert "To be looked at first: 2 of 4 scans, with a mean Dice of 0.50; the rest have 0.90." in text
    assert "Of the worst scans most wrong voxels are: 2 missed, 2 border." in text
    assert "Of 2 bad masks (Dice below 0.7) the rule names 2." in text
    assert "Buda, Saha, Mazurowski 2019" in text
    assert "X/worst.csv" in text


def test_published_results_stand_beside_the_public_data_set_alone() -> None:
    folds = rows(public=False)
    everyone = [row for of_fold in folds.values() for row in of_fold]
    page = as_html(out_of_fold(folds, {}), everyone, "five", "worst.csv", datetime(2026, 1, 2, tzinfo=UTC))
    assert "Buda" not in words(page)


def test_a_name_in_the_table_of_the_worst_is_never_a_formula() -> None:
    lines = worst_csv(out_of_fold(rows(public=False), {}).worst).decode().splitlines()
    assert len(lines) == 5
    assert lines[1].split(",")[0] == "'=SITE_01"
