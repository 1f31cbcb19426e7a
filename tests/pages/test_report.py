from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from raw_builder import write_scan
from report_builder import (
    DICE,
    FALSE_ALARM,
    MISSED,
    NOON,
    PERFECT,
    add_split,
    quarantine_row,
    write_lake,
    write_metrics,
    write_run,
    write_scores,
)

from slicemill.config import ReportConfig
from slicemill.core.evaluation.rows import ScanScore
from slicemill.errors import ConfigError, InputError, LakeVersionError
from slicemill.io import storage
from slicemill.io.lake.rows import QuarantineRow, columns
from slicemill.io.lake.tables import LakeTables
from slicemill.io.parquet import write_small
from slicemill.io.places import Lake, Run
from slicemill.io.results import Results, read_results
from slicemill.io.run.record import read_run
from slicemill.io.scores.results import ScoreTables, SliceScore
from slicemill.pages.build import build
from slicemill.pages.headline import institutions
from slicemill.pages.sections import pictures, training
from slicemill.pages.sections.results import _dice_tiles, _partly_labelled
from slicemill.pages.selection import best_with_tumour, worst_with_tumour
from slicemill.pipelines import report
from slicemill.schemas import SCANS, SCHEMA_VERSION


class Page(HTMLParser):
    """What a reader sees of a page: words of each tag, table rows by their table's name, addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.anchors: set[str] = set()
        self.tables: dict[str, list[list[str]]] = {}
        self._table: list[list[str]] | None = None
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [
            given[name] for name in ("src", "href", "srcset", "action", "data") if name in given
        ]
        self.anchors |= {given["id"]} if "id" in given else set()
        if tag == "table":
            self._table = self.tables.setdefault(given["id"].removeprefix("table-"), [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table is not None:
            self._table[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False
        elif tag == "table":
            self._table = None

    def handle_data(self, data):
        if self._cell and self._table is not None:
            self._table[-1][-1] += data

    @property
    def words(self) -> str:
        return re.sub(
            r"\s+", " ", re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", self.text, flags=re.DOTALL)
        )

    def tile(self, label: str) -> str:
        found = re.search(rf"<dt>{label}</dt><dd><strong>(.*?)</strong>", self.text)
        assert found, label
        return found[1]


def make(out: Path, **inputs) -> tuple[dict, Page]:
    summary = report.run(ReportConfig(out=str(out), **inputs), None)
    return summary, Page((out / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(homes, tmp_path_factory) -> tuple[dict, Page]:
    out = tmp_path_factory.mktemp("whole")
    return make(out, lake=homes.lake, run=homes.run, scores=homes.scores)


@pytest.fixture(scope="module")
def alone(homes, tmp_path_factory) -> dict[str, tuple[dict, Page]]:
    """A page from each input alone."""
    base = tmp_path_factory.mktemp("alone")
    return {name: make(base / name, **{name: getattr(homes, name)}) for name in ("lake", "run", "scores")}


def test_the_summary_counts_the_figures(whole, alone):
    for summary, page in [whole, *alone.values()]:
        assert (summary["job"], summary["status"]) == ("report", "done")
        assert summary["figures"] == page.tags.count("figure") > 0
        assert summary["bytes"] == len(page.text.encode())


def test_nothing_comes_from_outside_the_page(whole, alone):
    for _, page in [whole, *alone.values()]:
        assert all(address.startswith(("data:", "#")) for address in page.addresses)
        assert not re.search(r"https?:|url\(|@import", page.text)
        assert "default-src 'none'" in page.text


def test_every_link_leads_somewhere(whole):
    _, page = whole
    links = {address[1:] for address in page.addresses if address.startswith("#")}
    assert {"result", "examples", "slices", "pages", "data", "training", "scan-1"} <= links <= page.anchors


def test_each_input_alone_gives_a_page_that_says_what_is_missing(alone):
    lacks = {
        "lake": ["No scores were given", "No training run was given"],
        "run": ["No scores were given", "No lake was given"],
        "scores": ["No training run was given", "No lake was given", "Pictures need the slices"],
    }
    for name, sentences in lacks.items():
        for sentence in sentences:
            assert sentence in alone[name][1].words
    assert "No lake was given" not in alone["lake"][1].words


def test_the_table_of_scans_holds_what_was_scored(alone):
    head, *rows = alone["scores"][1].tables["scans"]
    assert [name.split(" (")[0] for name in head[:3]] == ["Scan", "Institution", "Dice"]
    assert [(row[0], row[2]) for row in rows] == [
        (MISSED, "0.000"),
        (FALSE_ALARM, "0.800"),
        (PERFECT, "1.000"),
    ]
    by_scan = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert by_scan[FALSE_ALARM]["IoU"] == "0.667"
    assert by_scan[FALSE_ALARM]["Predicted (voxels)"] == by_scan[FALSE_ALARM]["True (voxels)"] == "20"
    assert by_scan[FALSE_ALARM]["Institution"] == "BB"
    assert by_scan[MISSED]["HD95 (px)"] == "\N{EN DASH}"
    assert by_scan[PERFECT]["Warnings"] == "synthetic warning"
    assert "1 of 3 scans carry a warning" in alone["scores"][1].words
    assert f"The first, {PERFECT}: synthetic warning." in alone["scores"][1].words


def test_the_headline_is_the_mean_over_patients(alone):
    page = alone["scores"][1]
    assert page.tile("Mean patient Dice") == f"{sum(DICE.values()) / 3:.3f}"
    assert page.tile("Median patient Dice") == "0.800"
    assert "95% interval 0.000 to 1.000" in page.words
    assert "It is not known here which of these patients the model was trained on" in page.words


def test_patients_that_the_model_has_seen_are_left_out_of_the_headline(whole):
    page = whole[1]
    assert page.tile("Mean patient Dice") == "0.400"
    assert "1 of 3 scans are of patients that the model was trained or chosen on" in page.words
    rows = {row[0]: row for row in page.tables["scans"][1:]}
    assert {scan_id: row[2] for scan_id, row in rows.items()} == {
        PERFECT: "train",
        MISSED: "test",
        FALSE_ALARM: "test",
    }


def test_slices_are_told_apart_by_the_lakes_truth(whole):
    page = whole[1]
    assert page.tables["confusion"][1:] == [["Tumour", "1", "3"], ["No tumour", "1", "3"]]
    assert page.tile("Tumour slices detected") == "25.0%"
    assert f"{FALSE_ALARM} slice 1, predicted 4 px, true 0 px, Dice 0.000" in page.words
    assert f"{MISSED} slice 4, predicted 0 px, true 16 px, Dice 0.000" in page.words


def test_a_scan_that_is_asked_for_gets_a_page(homes, whole, tmp_path):
    assert whole[1].text.count('class="viewer"') == 2
    _, page = make(tmp_path, lake=homes.lake, run=homes.run, scores=homes.scores, scan=(PERFECT, "NOT_THERE"))
    assert page.text.count('class="viewer"') == 3
    assert "Asked for, but not shown: NOT_THERE." in page.words


def test_the_data_section_counts_the_lake(alone):
    page = alone["lake"][1]
    assert [
        page.tile(name) for name in ("Patients", "Scans", "Slices", "Slices with tumour", "Set aside")
    ] == ["3", "3", "12", "6", "5"]
    assert page.tables["split-demo"][1:] == [
        ["train", "1", "1", "4", "2", "50.0%"],
        ["test", "2", "2", "8", "4", "50.0%"],
    ]
    assert [row[0] for row in page.tables["quarantine"][1:]] == ["truncated"] * 3
    assert page.tables["quarantine"][1][1:3] == ["5", "S/S_0.tif"]
    assert page.tables["clinical"][1:] == [
        ["grade", "3", "0", "3: 2, 2: 1"],
        ["age", "2", "1", "40.5: 1, 60.0: 1"],
    ]


def test_the_split_of_the_run_is_shown_first_whatever_its_name(homes, tmp_path):
    home = f"file://{tmp_path}/lake"
    write_lake(home, homes.raw)
    assigned = {"TEST_AA_0001": "train", "TEST_AA_0002": "test", "TEST_BB_0003": "test"}
    for name in ("a", "b", "c", "d", "e"):
        add_split(home, name, assigned)
    run_home = f"file://{tmp_path}/run"
    write_run(run_home, split="z", hash_=add_split(home, "z", assigned))
    _, page = make(tmp_path / "out", lake=home, run=run_home)
    tables = [name for name in page.tables if name.startswith("split-")]
    assert tables == ["split-z", "split-a", "split-b", "split-c"]
    assert "Not shown: d, e." in page.words


def test_a_scans_institution_is_read_by_the_lakes_own_pattern(homes, tmp_path):
    home = f"file://{tmp_path}/lake"
    write_lake(home, homes.raw)
    pattern = r"(?P<patient_id>(?P<institution>[a-z]+)-\d+)"
    storage.write_json(Lake(home).card, {"schema_version": SCHEMA_VERSION, "scan_pattern": pattern})
    results = read_results(home, None, None)
    rows = [score_row("utrecht-7"), score_row("TEST_AA_0009_20200101")]
    assert institutions(results, rows) == {"utrecht-7": "utrecht", "TEST_AA_0009_20200101": "unknown"}


def test_the_training_section_shows_the_card(alone):
    page = alone["run"][1]
    card = dict(row for row in page.tables["card"][1:])
    assert card["architecture"] == "unet-resnet18"
    assert card["metrics"] == "val_dice 0.75"
    assert alone["run"][0]["figures"] == 4


def test_pictures_come_from_raw_folders_where_there_is_no_lake(homes, whole, tmp_path):
    summary, page = make(tmp_path, scores=homes.scores, raw=(str(homes.raw),))
    assert "Pictures need the slices" not in page.words
    assert page.text.count('class="viewer"') == 3
    examples = re.findall(r'image href="(data:[^"]+)"', whole[1].text)[:2]
    assert set(examples) < set(re.findall(r'image href="(data:[^"]+)"', page.text))
    assert summary["figures"] == 25


def test_a_scan_that_neither_lake_nor_raw_folder_holds_is_said_to_lack_its_picture(homes, tmp_path):
    write_scan(tmp_path / "raw", PERFECT)
    _, page = make(tmp_path / "out", scores=homes.scores, raw=(str(tmp_path / "raw"),))
    assert "2 of 3 pictures are missing. Pictures need the slices" in page.words
    assert page.text.count('class="viewer"') == 1


def test_the_learning_rate_finder_is_drawn_where_it_ran(tmp_path):
    home = f"file://{tmp_path}/run"
    found = {"learning_rate": [1e-4, 1e-3, 1e-2], "loss": [1.0, 0.5, 9.0], "suggested": 1e-4}
    storage.write_json(Run(home).learning_rates, found)
    summary, page = make(tmp_path / "out", run=home)
    assert "Learning-rate finder: the loss while the rate rises" in page.words
    assert "no epoch has ended" in page.words
    assert summary["figures"] == 1


def test_predictions_of_some_epochs_are_shown_as_they_improved(tmp_path):
    home = f"file://{tmp_path}/run"
    write_metrics(home, 20)
    for epoch in range(1, 21):
        storage.write_bytes(f"{home}/figures/examples-epoch-{epoch:03d}.png", png(40, 20))
    storage.write_bytes(f"{home}/figures/curves.png", png(4, 4))
    storage.write_bytes(f"{home}/figures/examples-epoch-001.png", b"no picture")
    _, page = make(tmp_path / "out", run=home)
    captions = re.findall(r"Validation slices after epoch (\d+)\.</figcaption>", page.text)
    assert captions == ["5", "9", "12", "16", "20"]
    assert "Shown are 6 of 20 epochs" in page.words
    assert "1 pictures are not PNG" in page.words
    assert 'width="40" height="20"' in page.text


def test_of_too_many_pictures_the_last_and_the_first_are_shown(tmp_path, monkeypatch):
    home = f"file://{tmp_path}/run"
    write_metrics(home, 20)
    for epoch in range(1, 21):
        storage.write_bytes(f"{home}/figures/examples-epoch-{epoch:03d}.png", png(40, 20))
    monkeypatch.setattr(training, "EXAMPLE_BUDGET", 3 * len(png(40, 20)))
    _, page = make(tmp_path / "out", run=home)
    captions = re.findall(r"Validation slices after epoch (\d+)\.</figcaption>", page.text)
    assert captions == ["1", "16", "20"]
    assert "3 pictures are not PNG files, or did not fit" in page.words


def test_pictures_of_an_overwritten_run_are_not_shown(tmp_path):
    home = f"file://{tmp_path}/run"
    lines = [
        {"epoch": epoch, "train_loss": 1.0, "val_dice": dice}
        for epoch, dice in ((1, 0.6), (2, 0.5), (3, 0.4))
    ]
    storage.write_bytes(Run(home).metrics, "".join(json.dumps(line) + "\n" for line in lines).encode())
    for epoch in (1, 2, 3, 4):
        storage.write_bytes(Run(home).examples(epoch), png(40, 20))
    # This run drew when epoch 1 led and after its last; epochs 2 and 4 are an earlier run's.
    assert sorted(read_run(home).examples) == [1, 3]


def test_pictures_are_not_shown_before_an_epoch_of_their_run_has_ended(tmp_path):
    home = f"file://{tmp_path}/run"
    storage.write_bytes(Run(home).examples(1), png(40, 20))
    assert not read_run(home).examples


def test_a_classifiers_curves_are_its_own(tmp_path):
    home = f"file://{tmp_path}/run"
    lines = [
        {"epoch": epoch, "train_loss": 1 / epoch, "val_accuracy": 0.5, "val_auroc": None} for epoch in (1, 2)
    ]
    storage.write_bytes(Run(home).metrics, "".join(json.dumps(line) + "\n" for line in lines).encode())
    _, page = make(tmp_path / "out", run=home)
    assert "a classifier&#39;s accuracy on slices" in page.words
    assert "no curve of validation" not in page.words


def png(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (width, height)).save(sink, "PNG")
    return sink.getvalue()


def test_a_lake_without_masks_clinical_table_quarantine_and_splits_says_so(tmp_path):
    write_scan(tmp_path / "raw", "TEST_AA_0001_20200101", masks=False)
    home = f"file://{tmp_path}/lake"
    write_lake(home, tmp_path / "raw")
    _, page = make(tmp_path / "out", lake=home)
    for sentence in (
        "No scan of the lake has masks",
        "No clinical table was joined",
        "Nothing was set aside",
        "The lake has no split yet",
    ):
        assert sentence in page.words


def test_a_lake_of_quarantine_alone_says_so(tmp_path):
    home = f"file://{tmp_path}/lake"
    (tmp_path / "raw").mkdir()
    write_lake(home, tmp_path / "raw", [quarantine_row("not_a_tiff", "file:///raw/S/S_1.tif")])
    _, page = make(tmp_path / "out", lake=home)
    assert "The lake holds no scan." in page.words
    assert page.tables["quarantine"][1][0] == "not_a_tiff"


def test_scores_without_truth_have_pictures_and_no_dice(homes, tmp_path):
    home = f"file://{tmp_path}/scores"
    write_scores(home, homes.lake, truth=False)
    _, page = make(tmp_path / "out", scores=home, lake=homes.lake)
    assert "None of these scans has a true mask, so there is no Dice." in page.words
    assert "Largest predictions" in page.words
    assert page.text.count('class="overlay"') == 3
    assert "Mean patient Dice" not in page.words


def test_a_classifiers_scores_are_of_slices(homes, tmp_path):
    home = f"file://{tmp_path}/scores"
    write_scores(home, homes.lake, classifier=True)
    _, page = make(tmp_path / "out", scores=home, lake=homes.lake)
    assert "A classifier made these scores" in page.words
    assert "Mean patient Dice" not in page.words
    assert page.tables["confusion"][1:] == [["Tumour", "3", "3"], ["No tumour", "1", "5"]]
    assert page.tile("Slice accuracy") == f"{8 / 12:.3f}"
    # Of 36 pairs of a tumour slice and another, 15 are in the right order and 18 are even.
    assert page.tile("Area under the ROC curve") == f"{(15 + 18 / 2) / 36:.3f}"
    assert f"{FALSE_ALARM} slice 1, probability 0.90, true 0 px" in page.words
    assert f"{MISSED} slice 4, probability 0.20, true 16 px" in page.words
    assert "slice 4, probability 0.90, true 16 px" in page.words
    assert page.text.count('class="viewer"') == 3


def test_a_classifiers_numbers_come_first_and_no_column_is_empty(homes, tmp_path):
    home = f"file://{tmp_path}/scores"
    write_scores(home, homes.lake, classifier=True)
    _, page = make(tmp_path / "out", scores=home)
    labels = re.findall(r"<dt>(.*?)</dt><dd><strong>", page.text)
    assert labels[:4] == [
        "Slice accuracy",
        "Area under the ROC curve",
        "Tumour slices detected",
        "False alarms",
    ]
    head, *rows = page.tables["scans"]
    assert head[:3] == ["Scan", "Institution", "Slice accuracy"]
    assert not {"Dice", "IoU", "Slice-mean Dice", "HD95 (px)", "Predicted (voxels)"} & set(head)
    for cells in zip(*rows, strict=True):
        assert set(cells) - {"", "\N{EN DASH}"}
    # Of four slices each: two missed, one false alarm, all right.
    assert [(row[0], row[2]) for row in rows] == [
        (MISSED, "0.500"),
        (FALSE_ALARM, "0.500"),
        (PERFECT, "1.000"),
    ]


def test_the_first_lines_speak_to_each_reader(whole, alone):
    brief = re.findall(r"<dt>(For [^<]*)</dt><dd>(.*?)</dd>", whole[1].text)
    (_, clinician), (_, engineer), (_, researcher) = brief
    assert "Over 2 patients the predicted masks reach a mean Dice of 0.40" in clinician
    assert "The tumour was missed altogether in 1 of 2 scans that have one." in clinician
    assert clinician.endswith("Not for diagnosis.")
    assert "The lake holds 3 scans of 3 patients, 12 slices, all with a usable mask." in engineer
    assert "5 files or folders were set aside, most often truncated (5)." in engineer
    assert "3 scans were scored, 1 with a warning; 0 of their files were set aside." in engineer
    assert "unet-resnet18, 64 by 64 pixels, trained on split demo." in researcher
    assert [name for name, _ in re.findall(r"<dt>(For [^<]*)</dt><dd>(.*?)</dd>", alone["run"][1].text)] == [
        "For a researcher"
    ]


def test_a_classifiers_scores_without_truth_say_so(homes, tmp_path):
    home = f"file://{tmp_path}/scores"
    write_scores(home, homes.lake, truth=False, classifier=True)
    _, page = make(tmp_path / "out", scores=home, lake=homes.lake)
    assert "No slice here has a truth" in page.words


def test_a_run_that_is_not_finished_shows_its_curves(tmp_path):
    write_metrics(f"file://{tmp_path}/run", 2)
    _, page = make(tmp_path / "out", run=str(tmp_path / "run"))
    assert "The run has no model card: training has not ended." in page.words
    assert page.tags.count("figure") == 4


def test_folders_that_hold_nothing_yet_give_a_page(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "scores").mkdir()
    summary, page = make(tmp_path / "out", run=str(tmp_path / "run"), scores=str(tmp_path / "scores"))
    assert "no epoch has ended" in page.words
    assert "holds no finished scan yet" in page.words
    assert summary["figures"] == 0


@pytest.mark.parametrize("name", ["lake", "run", "scores"])
def test_an_input_that_is_not_there_is_an_error(name, tmp_path):
    with pytest.raises(InputError):
        report.run(ReportConfig(out=str(tmp_path / "out"), **{name: str(tmp_path / "nothing")}))
    assert not (tmp_path / "out").exists()


def test_a_lake_of_another_version_is_an_error(tmp_path):
    storage.write_json(Lake(f"file://{tmp_path}").card, {"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(LakeVersionError):
        report.run(ReportConfig(out=str(tmp_path / "out"), lake=str(tmp_path)))


def test_metrics_that_are_no_json_are_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{")
    with pytest.raises(InputError, match="one JSON object a line"):
        report.run(ReportConfig(out=str(tmp_path / "out"), run=str(tmp_path)))


def test_nothing_to_report_on_is_refused():
    with pytest.raises(ConfigError, match="nothing to report on"):
        ReportConfig(out="out")


HOSTILE = '<script>alert("x")</script>'


def score_row(scan_id: str, dice: float | None = 0.5, **more) -> ScanScore:
    """A row of the table of scored scans whose slices were never stored."""
    numbers = {"dice": dice, "iou": dice, "slice_mean_dice": dice, "predicted_volume": 10, "true_volume": 10}
    fixed = {"patient_id": scan_id, "model_id": "m", "scored_at": NOON}
    return ScanScore(**{**fixed, "scan_id": scan_id, **numbers, **more})


def test_names_from_outside_are_words_and_never_markup(homes):
    results = read_results(homes.lake, None, None)
    assert results.lake is not None
    scans = tuple(
        replace(scan, scan_id=HOSTILE, institution=HOSTILE, missing_sequences=[HOSTILE])
        for scan in results.lake.scans
    )
    hostile = replace(
        results.lake,
        scans=scans,
        clinical={HOSTILE: {HOSTILE: HOSTILE}},
        quarantine=(QuarantineRow(f"file:///{HOSTILE}", None, HOSTILE, HOSTILE, HOSTILE, None, "job", NOON),),
    )
    scores = ScoreTables(
        "file:///s", HOSTILE, (score_row(HOSTILE, warnings=(HOSTILE,), options=(HOSTILE,)),), {HOSTILE: 1}
    )
    page = Page(build(Results(hostile, None, scores)).html.decode())
    assert page.tables["scans"][1][0] == HOSTILE
    assert page.tables["clinical"][1][0] == HOSTILE
    assert HOSTILE not in page.text
    assert page.tags.count("script") == 1


def test_scan_pages_that_are_too_heavy_are_left_out_and_counted(homes, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "PAGE_BUDGET", 12_000)
    _, page = make(tmp_path, lake=homes.lake, scores=homes.scores)
    assert page.text.count('class="viewer"') == 1
    assert "2 pages did not fit into 0.012 MB and were left out." in page.words


def test_a_page_of_ten_thousand_scans_is_bounded(homes):
    results = read_results(homes.lake, None, None)
    assert results.lake is not None
    first = results.lake.scans[0]
    scans = tuple(
        replace(first, scan_id=f"TEST_{n % 40}_{n}", patient_id=f"P{n}", institution=f"I{n % 40}")
        for n in range(10_000)
    )
    quarantine = tuple(
        QuarantineRow(f"file:///{n}", None, "truncated", "synthetic", None, None, "job", NOON)
        for n in range(10_000)
    )
    scored = tuple(
        score_row(scan.scan_id, (n % 100) / 100, patient_id=scan.patient_id) for n, scan in enumerate(scans)
    )
    big = Results(
        replace(results.lake, scans=scans, quarantine=quarantine),
        None,
        ScoreTables("file:///s", "m", scored, {}),
    )
    made = build(big)
    page = Page(made.html.decode())
    assert len(made.html) < 8_000_000
    assert len(page.tables["scans"]) == 1 + 1000
    assert (
        "Shown are the 1,000 scans of lowest Dice. All 10,000 scans are in the table as CSV: /s/patients.csv"
        in page.words
    )
    assert page.tile("Mean patient Dice") == "0.495"


def test_a_median_distance_says_of_how_many_patients_it_is():
    rows = [score_row(f"P{n}", 0.8 if n < 2 else 0.0, hd95=4.0 if n < 2 else None) for n in range(10)]
    rows.append(
        score_row("healthy", 1.0)
    )  # empty in truth and prediction: nothing to measure, nothing missed
    distance = _dice_tiles(rows)[-1]
    assert distance.label == "Median HD95"
    assert "of 2 of 10 patients" in distance.detail
    (alone,) = [tile for tile in _dice_tiles(rows[2:3]) if tile.label == "Mean patient Dice"]
    assert (alone.value, alone.detail) == ("0.000", "of one patient, so without an interval")
    assert _dice_tiles(rows[2:3])[-1].detail == "0 of 1 patients have a distance"


def test_the_headline_is_of_patients_that_the_model_has_not_seen():
    rows = (
        score_row("a", 1.0, seen=True),
        score_row("b", 0.25, seen=False),
        score_row("c", 0.75, seen=False),
    )
    page = Page(build(Results(scores=ScoreTables("file:///s", "m", rows, {}))).html.decode())
    assert page.tile("Mean patient Dice") == "0.500"
    assert "1 of 3 scans are of patients that the model was trained or chosen on" in page.words
    assert [row[2] for row in page.tables["scans"][1:]] == ["new to the model"] * 2 + ["seen by the model"]


def test_a_dice_of_some_slices_only_is_marked():
    rows = [score_row("b", slices=4, labelled_slices=3), score_row("c", slices=4, labelled_slices=4)]
    (note,) = _partly_labelled(rows)
    assert note.text.startswith("1 of 2 scans have masks for some of their slices only")
    assert _partly_labelled(rows[1:]) == []


def test_two_scans_of_a_patient_count_once(homes):
    rows = (
        score_row("a", 1.0, patient_id="p"),
        score_row("b", 0.0, patient_id="p"),
        score_row("c", 1.0, patient_id="q"),
    )
    page = Page(build(Results(scores=ScoreTables("file:///s", "m", rows, {}))).html.decode())
    assert page.tile("Mean patient Dice") == "0.750"


def test_synthetic_scans_are_called_so():
    named = ScoreTables("file:///s", "m", (score_row("PHANTOM_SYA_0001_20010101"),), {})
    assert "These scans are synthetic" in build(Results(scores=named)).html.decode()
    other = ScoreTables("file:///s", "m", (score_row("TEST_A_1"),), {})
    assert "These scans are synthetic" not in build(Results(scores=other)).html.decode()


def test_the_same_inputs_make_the_same_bytes_and_leave_matplotlib_as_it_was(homes):
    settings = dict(mpl.rcParams)
    results = read_results(None, homes.run, None)
    made = datetime(2026, 1, 1, tzinfo=UTC)
    assert build(results, made=made) == build(results, made=made)
    assert dict(mpl.rcParams) == settings


def test_scans_without_channels_of_one_number_are_drawn(tmp_path):
    home = f"file://{tmp_path}/lake"
    write_scan(tmp_path / "raw", "TEST_AA_0001_20200101")
    write_lake(home, tmp_path / "raw")
    (row,) = read_results(home, None, None).lake.scans
    one_channel = {name: getattr(row, name)[:1] for name in ("min", "max", "mean", "std")}
    grey = replace(row, scan_id="G", **one_channel)
    write_small(Lake(home).scans, SCANS, [columns(row), columns(grey)])
    assert make(tmp_path / "out", lake=home)[1].tile("Scans") == "2"


def test_a_page_goes_from_s3_to_s3(homes, bucket):
    for file in storage.list_files(homes.run):
        storage.write_bytes(file.uri.replace(homes.run, f"{bucket}/run"), storage.read_bytes(file.uri))
    summary = report.run(ReportConfig(out=f"{bucket}/report", run=f"{bucket}/run"))
    assert summary["report"] == f"{bucket}/report/index.html"
    assert storage.read_bytes(summary["report"]).startswith(b"<!DOCTYPE html>")


def test_a_lake_can_be_read_without_its_totals(homes):
    there = read_results(homes.lake, None, None).lake
    assert isinstance(there, LakeTables)
    page = Page(build(Results(lake=replace(there, totals=None))).html.decode())
    assert "no published totals" in page.words


def test_maps_are_on_the_page_where_probabilities_were_written(whole, homes, tmp_path):
    _, page = whole
    assert "Probability and uncertainty over FLAIR" in page.words
    scores = f"file://{tmp_path}/plain"
    write_scores(scores, homes.lake)
    _, plain = make(tmp_path / "out", lake=homes.lake, scores=scores)
    assert "slicemill score --nifti --probabilities" in plain.words
    assert 'class="layer"' in page.text
    assert 'class="layer"' not in plain.text


def tumour_slice(scan: int, number: int, dice: float | None, positive: bool = True) -> SliceScore:
    return SliceScore(f"P{scan}", f"scan-{scan}", number, 10, 10, 0.9, dice, positive)


def test_the_best_tumour_slices_are_none_of_the_worst():
    slices = [
        tumour_slice(scan, number, (10 * scan + number) / 100) for scan in range(10) for number in (1, 2, 3)
    ]
    slices += [tumour_slice(99, 1, 0.0, positive=False)]
    best, worst = best_with_tumour(slices), worst_with_tumour(slices)
    assert [(score.scan_id, score.slice_index) for score in best[:3]] == [
        ("scan-9", 3),
        ("scan-9", 2),
        ("scan-8", 3),
    ]
    assert len(best) == len(worst) == 10
    assert not set(best) & set(worst)
    assert best_with_tumour(slices[:2]) == []


def test_a_page_whose_tumour_slices_are_all_among_the_worst_says_so(whole):
    _, page = whole
    best = page.text.partition("Tumour slices of highest Dice")[2].partition("</section>")[0]
    assert "No other slice with tumour was found." in best


def test_contact_sheets_hold_every_slice_and_are_those_of_the_last_report(homes, tmp_path):
    (tmp_path / "sheets").mkdir()
    (tmp_path / "sheets" / "earlier.webp").write_bytes(b"earlier")
    summary, page = make(tmp_path, lake=homes.lake, scores=homes.scores, contact_sheets=True)
    sheets = sorted(path.name for path in (tmp_path / "sheets").iterdir())
    assert sheets == sorted(f"{scan_id}.webp" for scan_id in DICE)
    assert summary["contact_sheets"] == 3
    assert "each of 3 scans are in sheets/" in page.words
    sheet = np.asarray(Image.open(tmp_path / "sheets" / f"{PERFECT}.webp").convert("RGB")).astype(int)
    assert sheet.shape[1] == 4 * 32
    # The fourth slice has a tumour at its top left, outlined; the third has none.
    colourful = np.abs(sheet[-32:, :, 0] - sheet[-32:, :, 2]) > 60
    assert colourful[:6, 96:102].any()
    assert not colourful[:6, 64:70].any()


def test_a_report_without_contact_sheets_says_none(whole, homes):
    summary, page = whole
    assert summary["contact_sheets"] is None
    assert "sheets/" not in page.words
