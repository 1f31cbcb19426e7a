"""What a score folder's writer never does, whatever a stranger's lake or manifest says."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lock_holder import held_fence

from slicemill.core.evaluation.rows import ManifestEntry, ScanScore
from slicemill.core.scans.scan import Scan, Slice
from slicemill.errors import InputError, LockLostError
from slicemill.io import storage
from slicemill.io.parquet import parquet_bytes, to_arrow
from slicemill.io.raw.tiff import count_values
from slicemill.io.scores.writer import ScanOutput, ScoreWriter
from slicemill.io.storage.fence import LOCK_NAME
from slicemill.io.storage.uri import canonical, join
from slicemill.schemas import MANIFEST

PLANE = np.zeros((4, 4), np.uint8)
IMAGE = np.zeros((4, 4, 3), np.uint8)


def output(scan_id: str) -> ScanOutput:
    source = Slice(1, IMAGE, None, count_values(IMAGE), "absent", canonical("/raw/1.tif"))
    score = ScanScore(patient_id="P", scan_id=scan_id, threshold=0.5)
    return ScanOutput(Scan(scan_id, "P", (source,), ()), PLANE[None], (), score)


@pytest.fixture
def writer(tmp_path: Path) -> ScoreWriter:
    return ScoreWriter(held_fence(str(tmp_path / "scores")), "masks", "model", "job")


@pytest.mark.parametrize("scan_id", ["../outside", "../../outside", "a/../../../outside", ".."])
def test_a_scan_id_never_leads_a_mask_outside(tmp_path: Path, writer: ScoreWriter, scan_id: str) -> None:
    with pytest.raises(InputError, match="leads out of"):
        writer.write(output(scan_id), "fingerprint", "key", ())
    assert [path.name for path in tmp_path.iterdir()] == ["scores"]
    assert [path.name for path in (tmp_path / "scores").iterdir()] == [LOCK_NAME]


def test_a_manifest_entry_never_removes_a_file_outside(tmp_path: Path, writer: ScoreWriter) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"1")
    score = dataclasses.replace(output("scan").score, model_id="model", scored_at=datetime.now(UTC))
    entry = ManifestEntry(score, "f", ("../precious",), ("hash",), "job")
    forged: dict[str, Any] = {**vars(entry.score), **vars(entry)}
    uri = join(writer.scores, "manifest", "scan--old.parquet")
    storage.write_bytes(uri, parquet_bytes(to_arrow(MANIFEST, [forged])))
    with pytest.raises(InputError, match="leads out of"):
        writer.write(output("scan"), "fingerprint", "key", (uri,))
    assert precious.read_bytes() == b"1"


def test_a_writer_without_its_lock_writes_nothing(tmp_path: Path, writer: ScoreWriter) -> None:
    late = dataclasses.replace(writer, fence=dataclasses.replace(writer.fence, token="another"))
    with pytest.raises(LockLostError):
        late.write(output("scan"), "fingerprint", "key", ())
    assert [path.name for path in (tmp_path / "scores").iterdir()] == [LOCK_NAME]
