"""`slicemill phantom` writes the public layout, on disk and in S3."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from slicemill.config import PUBLIC_SCAN_PATTERN, PhantomConfig
from slicemill.core.scans.discovery import FoundFile, discover
from slicemill.core.scans.phantom import make_scan
from slicemill.io import storage
from slicemill.io.raw.scan_reader import read_scan
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import phantom


def _contents(uri: str) -> dict[str, bytes]:
    base = canonical(uri)
    files = storage.list_files(base)
    data = storage.each(lambda file: storage.read_bytes(file.uri), files, base)
    return {file.uri.removeprefix(base): content for file, content in zip(files, data, strict=True)}


def test_scans_are_found_whole_and_read_back_as_made(phantom_raw: Path) -> None:
    files = [
        FoundFile(file.uri, file.size, file.version)
        for file in storage.list_files(canonical(str(phantom_raw)))
    ]
    found = discover(files, re.compile(PUBLIC_SCAN_PATTERN))
    assert found.problems == ()
    assert len(found.scans) == 6
    made = {scan.scan_id: scan for scan in (make_scan(number, 0, 64) for number in range(1, 7))}
    for task in found.scans:
        scan = read_scan(task, 64 * 64)
        assert scan.problems == ()
        assert [one.slice_index for one in scan.slices] == list(range(1, len(scan.slices) + 1))
        np.testing.assert_array_equal([one.image for one in scan.slices], made[task.scan_id].images)
        np.testing.assert_array_equal([one.mask for one in scan.slices], made[task.scan_id].masks)


def test_the_clinical_table_has_the_public_form(phantom_raw: Path) -> None:
    data = (phantom_raw / "data.csv").read_bytes()
    assert data.count(b"\r\n") == data.count(b"\n") == 7
    rows = list(csv.DictReader(data.decode().splitlines(), delimiter=";"))
    assert set(rows[0]) == {"Patient", "gender", "age", "synthetic"}
    folders = {path.name.rpartition("_")[0] for path in phantom_raw.iterdir() if path.is_dir()}
    assert {row["Patient"] for row in rows} == folders
    assert {row["synthetic"] for row in rows} == {"1"}


def test_everything_says_that_it_is_synthetic(phantom_raw: Path) -> None:
    assert (phantom_raw / "README.txt").read_text().startswith("Synthetic data")


def test_s3_gets_the_bytes_that_the_disk_gets(bucket: str, tmp_path: Path) -> None:
    summaries = [
        phantom.run(PhantomConfig(out, scans=1, size=32)) for out in (str(tmp_path), f"{bucket}/raw")
    ]
    assert _contents(str(tmp_path)) == _contents(f"{bucket}/raw")
    assert {key: summaries[0][key] for key in ("scans", "slices", "tumour_slices")} == {
        key: summaries[1][key] for key in ("scans", "slices", "tumour_slices")
    }


def test_the_first_scans_do_not_depend_on_how_many_follow(tmp_path: Path) -> None:
    phantom.run(PhantomConfig(str(tmp_path / "one"), scans=1, size=32))
    phantom.run(PhantomConfig(str(tmp_path / "two"), scans=2, size=32))
    one, two = _contents(str(tmp_path / "one")), _contents(str(tmp_path / "two"))
    tiffs = {name: data for name, data in one.items() if name.endswith(".tif")}
    assert tiffs
    assert tiffs.items() <= two.items()
