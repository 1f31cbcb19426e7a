"""A mask means what its stored values say; what they leave open is decided for the whole scan."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image
from tiff_builder import Form, build

from slicemill.core.rasters.masks import scan_masks
from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.io.raw.decode import decode_mask

LIMIT = 512 * 512
SIDE = 24

TUMOUR = np.zeros((SIDE, SIDE), np.uint8)
TUMOUR[4:12, 5:15] = 1
OTHER = np.zeros((SIDE, SIDE), np.uint8)
OTHER[14:20, 3:9] = 1
EMPTY = np.zeros((SIDE, SIDE), np.uint8)
#: Masks of one scan, in their order.
SCAN = (EMPTY, TUMOUR, OTHER, EMPTY)


def stored(plane: np.ndarray, form: Form | None = None) -> bytes:
    return build(plane[..., None] if plane.ndim == 2 else plane, form)


def png(plane: np.ndarray, mode: str | None = None) -> bytes:
    sink = io.BytesIO()
    picture = Image.fromarray(plane)
    (picture.convert(mode) if mode else picture).save(sink, "PNG")
    return sink.getvalue()


def read(files: Sequence[bytes], name: str = "s_1_mask.tif") -> list[np.ndarray | BadImageError]:
    return scan_masks([decode_mask(data, LIMIT, name) for data in files])


def reasons(files: Sequence[bytes]) -> list[Reason | None]:
    return [mask.reason if isinstance(mask, BadImageError) else None for mask in read(files)]


def assert_read(files: Sequence[bytes], name: str = "s_1_mask.tif") -> None:
    for mask, expected in zip(read(files, name), SCAN, strict=True):
        assert not isinstance(mask, BadImageError), (mask.detail, mask.found)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected)


KINDS = [
    ("uint8", 1), ("uint8", 255), ("uint16", 1), ("uint16", 255), ("uint16", 65535), ("uint32", 1),
    ("uint32", 255), ("uint32", 2**32 - 1), ("uint64", 2**64 - 1), ("int8", 1), ("int8", 127), ("int8", -1),
    ("int16", 1), ("int16", 255), ("int16", 32767), ("int32", 2**31 - 1), ("int64", 1), ("float16", 1),
    ("float32", 1), ("float32", 255), ("float64", 1), ("float64", 65535),
]  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "value"), KINDS)
def test_zero_and_one_or_the_largest_value_of_any_type_are_a_mask(kind: str, value: int, order: str) -> None:
    assert_read([stored(np.where(mask, value, 0).astype(kind), Form(order=order)) for mask in SCAN])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_a_mask(bits: int) -> None:
    assert_read([stored(mask * np.uint8((1 << bits) - 1), Form(bits=bits)) for mask in SCAN])


@pytest.mark.parametrize("compression", [1, 2, 3, 4, 5, 8, 32773])
def test_one_bit_is_a_mask_however_it_is_compressed(compression: int) -> None:
    assert_read([stored(mask, Form(bits=1, compression=compression, rows_per_strip=7)) for mask in SCAN])


@pytest.mark.parametrize("photometric", [0, 1, 3, 4])
@pytest.mark.parametrize(("bits", "value"), [(None, 255), (None, 1), (1, 1)])
def test_how_a_mask_is_to_be_shown_does_not_change_it(photometric: int, bits: int | None, value: int) -> None:
    form = Form(photometric=photometric, bits=bits)
    assert_read([stored(mask * np.uint8(value), form) for mask in SCAN])


@pytest.mark.parametrize("photometric", [0, 3])
def test_a_mask_that_only_makes_sense_as_it_is_shown_is_ambiguous(photometric: int) -> None:
    files = [stored((1 - mask) * np.uint8(255), Form(photometric=photometric)) for mask in SCAN]
    assert reasons(files) == [Reason.MASK_AMBIGUOUS] * 4


def test_a_mask_that_covers_much_by_its_plain_values_is_believed() -> None:
    # It is a finding (`slicemill.core.profiles.doubts`): its file says nothing else.
    masks = read([stored((1 - mask) * np.uint8(255)) for mask in SCAN])
    np.testing.assert_array_equal(masks[1], 1 - TUMOUR)


@pytest.mark.parametrize("alpha", [None, 255, 0])
@pytest.mark.parametrize("separate", [False, True])
def test_equal_colours_are_one_mask(alpha: int | None, separate: bool) -> None:
    files = []
    for mask in SCAN:
        planes = [mask * np.uint8(255)] * 3 + ([] if alpha is None else [np.full_like(mask, alpha)])
        files.append(stored(np.dstack(planes), Form(separate=separate)))
    assert_read(files)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("colour", [0, 255])
def test_an_object_that_only_alpha_holds_is_the_mask(colours: int, extra: int, colour: int) -> None:
    files = [
        stored(
            np.dstack([np.full_like(mask, colour)] * colours + [mask * np.uint8(255)]), Form(extra=(extra,))
        )
        for mask in SCAN
    ]
    assert_read(files)


def test_alpha_that_repeats_the_colours_says_nothing_else() -> None:
    assert_read([stored(np.dstack([mask * np.uint8(255)] * 4)) for mask in SCAN])


def test_colours_against_alpha_are_ambiguous_for_the_whole_scan() -> None:
    files = [
        stored(np.dstack([mask * np.uint8(255)] * 3 + [other * np.uint8(255)]))
        for mask, other in zip(SCAN, (EMPTY, OTHER, TUMOUR, EMPTY), strict=True)
    ]
    assert reasons(files) == [Reason.MASK_AMBIGUOUS] * 4


def test_an_object_cut_out_of_alpha_is_ambiguous() -> None:
    files = [stored(np.dstack([EMPTY] * 3 + [(1 - mask) * np.uint8(255)])) for mask in SCAN]
    assert reasons(files) == [Reason.MASK_AMBIGUOUS] * 4


@pytest.mark.parametrize("form", [Form(extra=(0,)), Form(extra=())])
def test_a_sample_of_no_stated_meaning_is_refused(form: Form) -> None:
    with pytest.raises(BadImageError) as caught:
        decode_mask(stored(np.dstack([TUMOUR] * 4), form), LIMIT)
    assert caught.value.reason is Reason.UNKNOWN_SAMPLE


CLASSES = {
    "one class a slice": (EMPTY, TUMOUR, OTHER * 2, EMPTY),
    "two in one slice": (EMPTY, TUMOUR + OTHER * 2, TUMOUR, EMPTY),
    "1, 2 and 4": (TUMOUR, OTHER * 2, TUMOUR * 4, TUMOUR + OTHER * 4),
    "grey steps": (EMPTY, TUMOUR * 85, OTHER * 170, TUMOUR * 255),
    "100 and 200 of ten": (*[TUMOUR * 255] * 6, TUMOUR * 100, OTHER * 200),
    "one, and the largest value": (TUMOUR, OTHER * 255, EMPTY, EMPTY),
    "a few classes in many": (*[TUMOUR] * 20, TUMOUR + OTHER * 2),
}


@pytest.mark.parametrize("name", CLASSES)
def test_several_classes_are_no_mask_in_any_slice_of_the_scan(name: str) -> None:
    masks = CLASSES[name]
    assert reasons([stored(mask.astype(np.uint8)) for mask in masks]) == [Reason.MASK_SEVERAL_CLASSES] * len(
        masks
    )


@pytest.mark.parametrize("value", [2, 100, 128, 254])
def test_one_value_that_means_nothing_is_no_mask_in_any_slice(value: int) -> None:
    # Empty slices too: a scan whose tumours are refused is not a healthy one.
    assert reasons([stored(mask * np.uint8(value)) for mask in SCAN]) == [Reason.MASK_NOT_BINARY] * 4


def test_noise_of_a_lossy_compression_is_no_mask_in_any_slice() -> None:
    files = []
    for mask in SCAN:
        sink = io.BytesIO()
        Image.fromarray(mask * np.uint8(255)).save(sink, "JPEG", quality=60)
        files.append(stored(np.asarray(Image.open(sink))))
    assert set(reasons(files)) == {Reason.MASK_NOT_BINARY}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_numbers_are_no_mask(value: float) -> None:
    plane = TUMOUR.astype(np.float32)
    plane[0, 0] = value
    assert reasons([stored(plane)] + [stored(TUMOUR.astype(np.float32))] * 3) == [
        Reason.MASK_NOT_BINARY, None, None, None,
    ]  # fmt: skip


def test_colours_that_differ_are_no_mask_in_any_slice() -> None:
    files = [stored(np.dstack([mask * np.uint8(255), EMPTY, EMPTY])) for mask in SCAN]
    assert reasons(files) == [Reason.MASK_NOT_BINARY] * 4


def test_one_odd_file_among_sound_masks_is_set_aside_alone() -> None:
    grey = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    for odd in (grey, TUMOUR * 7 + 7, TUMOUR * 100):
        files = [stored(mask * np.uint8(255)) for mask in (*SCAN, TUMOUR)]
        assert reasons([stored(odd.astype(np.uint8)), *files]) == [Reason.MASK_NOT_BINARY, *[None] * 5]


def test_masks_of_different_types_are_one_scan() -> None:
    files = [
        stored(EMPTY),
        stored(TUMOUR * np.uint8(255)),
        stored(OTHER.astype(np.uint16) * np.uint16(65535), Form(order=">")),
        stored(EMPTY, Form(bits=1)),
    ]
    assert_read(files)


def test_a_scan_without_masks_has_none() -> None:
    assert scan_masks([]) == []


@pytest.mark.parametrize("mode", [None, "1", "RGB", "RGBA", "LA"])
def test_a_png_is_a_mask(mode: str | None) -> None:
    assert_read([png(mask * np.uint8(255), mode) for mask in SCAN], "s_1_mask.PNG")


def test_a_png_of_sixteen_bits_is_a_mask() -> None:
    assert_read([png(mask.astype(np.uint16) * np.uint16(65535)) for mask in SCAN], "s_1_mask.png")


def test_a_png_with_its_object_in_alpha_is_a_mask() -> None:
    files = [png(np.dstack([EMPTY] * 3 + [mask * np.uint8(255)])) for mask in SCAN]
    assert_read(files, "s_1_mask.png")


def test_the_numbers_of_a_palette_are_the_mask() -> None:
    files = []
    for mask in SCAN:
        sink = io.BytesIO()
        picture = Image.fromarray(mask, "P")
        picture.putpalette([0, 0, 0, 255, 0, 0])
        picture.save(sink, "PNG")
        files.append(sink.getvalue())
    assert_read(files, "s_1_mask.png")
