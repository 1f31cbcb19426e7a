"""One scan's files to its slices: what is wrong is named, and what hangs together is decided together."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiff_builder import Form, build

from slicemill.core.profiles.scan_profile import ScanProfile
from slicemill.core.profiles.sequences import scan_missing_sequences
from slicemill.core.scans.discovery import FoundFile, discover
from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.core.scans.scan import Scan
from slicemill.errors import MissingFileError, StorageError
from slicemill.io import storage
from slicemill.io.raw import decode
from slicemill.io.raw.scan_reader import _fetch, read_scan
from slicemill.types import Uri

FILE = FoundFile("s3://b/scan/scan_1.tif", 10, "")


def failing(error: Exception):
    def read(*_: object) -> bytes:
        raise error

    return read


def test_a_file_that_storage_says_is_gone_is_set_aside(monkeypatch) -> None:
    monkeypatch.setattr(storage, "read_listed", failing(MissingFileError("can't be read")))
    with pytest.raises(BadImageError) as caught:
        _fetch(FILE, 100)
    assert caught.value.reason is Reason.UNREADABLE


def test_storage_that_does_not_answer_says_nothing_about_the_file(monkeypatch) -> None:
    monkeypatch.setattr(storage, "read_listed", failing(StorageError("503 SlowDown")))
    with pytest.raises(StorageError, match="503"):
        _fetch(FILE, 100)


SCAN_ID = "TEST_AA_0001_20200101"
SIDE = 32
SPOT = np.zeros((SIDE, SIDE, 1), np.uint8)
SPOT[8:14, 18:26] = 255
EMPTY = np.zeros_like(SPOT)

Picture = Callable[[int], bytes]


def head(number: int) -> np.ndarray:
    """A bright disc with three sequences and some noise: uint8, axes (H, W, 3)."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    disc = (rows**2 + columns**2 < (0.4 * SIDE) ** 2)[..., None]
    noise = np.random.default_rng(number).integers(0, 60, (SIDE, SIDE, 3))
    return (disc * (60, 80, 100) + noise * disc + noise // 20).astype(np.uint8)


def plain_mask(number: int) -> bytes:
    return build(SPOT if number % 2 else EMPTY)


def read(
    folder: Path, image: Picture, mask: Picture = plain_mask, slices: int = 4, suffix: str = ".tif", **options
) -> Scan:
    """The scan that a folder of such files is."""
    home = folder / SCAN_ID
    home.mkdir()
    for number in range(slices):
        (home / f"{SCAN_ID}_{number}{suffix}").write_bytes(image(number))
        (home / f"{SCAN_ID}_{number}_mask{suffix}").write_bytes(mask(number))
    files = [FoundFile(Uri(path.as_uri()), path.stat().st_size, "") for path in sorted(home.iterdir())]
    (task,) = discover(files, re.compile(""), roots=[Uri(folder.as_uri())]).scans
    return read_scan(task, 1 << 20, **options)


def plain_image(number: int) -> bytes:
    return build(head(number))


def tumour_pixels(scan: Scan) -> list[int | None]:
    return [None if one.mask is None else int(one.mask.sum()) for one in scan.slices]


def reasons(scan: Scan) -> list[tuple[str, Reason]]:
    return [(problem.uri.rpartition("/")[2], problem.reason) for problem in scan.problems]


def test_a_mask_is_its_stored_values_whatever_colour_its_zero_is_shown_in(tmp_path: Path) -> None:
    scan = read(tmp_path, plain_image, lambda n: build(SPOT if n % 2 else EMPTY, Form(photometric=0)))
    assert tumour_pixels(scan) == [0, 48, 0, 48]
    assert not scan.problems


def test_a_tumour_in_alpha_is_never_taken_for_healthy(tmp_path: Path) -> None:
    def mask(number: int) -> bytes:
        return build(np.concatenate([EMPTY] * 3 + [SPOT if number % 2 else EMPTY], axis=-1))

    assert tumour_pixels(read(tmp_path, plain_image, mask)) == [0, 48, 0, 48]


def test_masks_of_several_classes_are_rejected_in_every_slice(tmp_path: Path) -> None:
    scan = read(tmp_path, plain_image, lambda n: build(SPOT // 255 * np.uint8(n)))
    assert [one.mask_status for one in scan.slices] == ["rejected"] * 4
    assert tumour_pixels(scan) == [None] * 4
    assert reasons(scan) == [(f"{SCAN_ID}_{n}_mask.tif", Reason.MASK_SEVERAL_CLASSES) for n in range(4)]


def test_a_fourth_sequence_is_not_thrown_away_as_alpha(tmp_path: Path) -> None:
    def image(number: int) -> bytes:
        return build(np.concatenate([head(number), head(number)[..., :1]], axis=-1), Form(extra=(0,)))

    scan = read(tmp_path, image)
    assert not scan.slices
    assert {reason for _, reason in reasons(scan)} == {Reason.UNKNOWN_SAMPLE}


def test_a_hot_pixel_does_not_take_the_contrast_of_a_scan(tmp_path: Path) -> None:
    def image(number: int) -> bytes:
        pixels = head(number).astype(np.uint16) * 4
        pixels[0, 0] = 65535 if number == 0 else pixels[0, 0]
        return build(pixels)

    columns = ScanProfile(read(tmp_path, image)).scan_columns()
    assert columns.statistics.p90[1] > 40
    assert columns.doubts == []


def test_twelve_bits_that_are_white_where_they_are_zero_keep_their_contrast(tmp_path: Path) -> None:
    images = [4095 - head(number)[..., 1:2].astype(np.uint16) * 20 for number in range(4)]
    scan = read(tmp_path, lambda number: build(images[number], Form(photometric=0)))
    plane = scan.slices[0].image[..., 0].astype(int)
    np.testing.assert_allclose(plane, head(0)[..., 1].astype(float) * 20 * 255 / 4095, atol=1)


def test_signed_numbers_without_their_tag_are_set_aside(tmp_path: Path) -> None:
    def image(number: int) -> bytes:
        return build((head(number).astype(np.int16) * 8 - 20).view(np.uint16))

    scan = read(tmp_path, image)
    assert not scan.slices
    assert {reason for _, reason in reasons(scan)} == {Reason.DEPTH_AMBIGUOUS}


def test_an_offset_that_takes_the_contrast_is_a_finding(tmp_path: Path) -> None:
    scan = read(tmp_path, lambda number: build(head(number).astype(np.uint16) + 30_000))
    doubts = ScanProfile(scan).scan_columns().doubts
    assert len(doubts) == 3
    assert all("lost its contrast" in doubt for doubt in doubts)


def test_black_slices_have_no_say_in_what_a_scan_lacks(tmp_path: Path) -> None:
    black = build(np.zeros((SIDE, SIDE, 3), np.uint8))
    scan = read(tmp_path, lambda number: plain_image(number) if 3 <= number < 6 else black, slices=9)
    assert ScanProfile(scan).scan_columns().missing_sequences == scan_missing_sequences(scan) == []


def test_slices_and_masks_may_be_pngs(tmp_path: Path) -> None:
    def png(pixels: np.ndarray) -> bytes:
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        return sink.getvalue()

    scan = read(
        tmp_path, lambda n: png(head(n)), lambda n: png((SPOT if n % 2 else EMPTY)[..., 0]), suffix=".png"
    )
    assert not scan.problems
    assert tumour_pixels(scan) == [0, 48, 0, 48]
    np.testing.assert_array_equal(scan.slices[2].image, head(2))


def test_a_scan_that_takes_too_long_is_set_aside_as_a_whole(tmp_path: Path) -> None:
    scan = read(tmp_path, plain_image, seconds=0.0)
    assert not scan.slices
    assert reasons(scan) == [(SCAN_ID, Reason.TOO_SLOW)]


@pytest.mark.parametrize("fault", [ValueError, IndexError, OverflowError, TypeError])
def test_a_fault_of_the_decoder_is_one_files(monkeypatch, tmp_path: Path, fault: type[Exception]) -> None:
    plain = decode.decode_tiff

    def faulty(data: bytes, *arguments):
        if data == plain_image(2):
            raise fault("of ours")
        return plain(data, *arguments)

    monkeypatch.setattr(decode, "decode_tiff", faulty)
    scan = read(tmp_path, plain_image)
    assert [one.slice_index for one in scan.slices] == [0, 1, 3]
    assert reasons(scan) == [(f"{SCAN_ID}_2.tif", Reason.UNREADABLE)]
