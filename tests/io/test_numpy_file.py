"""NumPy files: what is read, and what a crafted header can't do."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.io.raw.numpy_file import SIGNATURE, decode_npy

LIMIT = 4096


def saved(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array(sink, array, version)
    return sink.getvalue()


def crafted(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return SIGNATURE + b"\x01\x00" + len(text).to_bytes(2, "little") + text


def reason(data: bytes) -> Reason:
    with pytest.raises(BadImageError) as error:
        decode_npy(data, LIMIT)
    return error.value.reason


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
def test_an_array_comes_back_as_it_was_saved(dtype, order):
    stack = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3)).astype(dtype, order=order)
    for plane, pixels in zip(stack, decode_npy(saved(stack), LIMIT), strict=True):
        np.testing.assert_array_equal(pixels.pixels, plane)
        assert pixels.pixels.dtype.isnative


def test_grey_is_repeated_and_noted():
    (plane,) = decode_npy(saved(np.arange(12, dtype=np.uint8).reshape(3, 4), (2, 0)), LIMIT)
    assert plane.pixels.shape == (3, 4, 3)
    assert plane.notes == ("grey repeated in three channels",)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((4, 4), np.float32), Reason.UNEXPECTED_DEPTH),
        (np.zeros((4, 4), np.int8), Reason.UNEXPECTED_DEPTH),
        (np.zeros(9, np.uint8), Reason.UNEXPECTED_SHAPE),
        (np.zeros((2, 4, 4, 4), np.uint8), Reason.UNEXPECTED_SHAPE),
        (np.zeros((0, 4), np.uint8), Reason.UNEXPECTED_SHAPE),
        (np.zeros((65, 64), np.uint8), Reason.TOO_LARGE),
    ],
)
def test_what_is_no_slice_has_a_reason(array, expected):
    assert reason(saved(array)) == expected


def test_objects_are_never_unpickled():
    sink = io.BytesIO()
    np.save(sink, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert reason(sink.getvalue()) == Reason.UNEXPECTED_DEPTH


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (64, 64)}", Reason.TRUNCATED),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (2000, 64, 64, 3)}", Reason.TRUNCATED),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 64, 64, 3)}", Reason.UNEXPECTED_SHAPE),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, -4)}", Reason.UNEXPECTED_SHAPE),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (True, True)}", Reason.TRUNCATED),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (4, 4)}", Reason.UNEXPECTED_DEPTH),
        ("__import__('os').getcwd()", Reason.UNREADABLE),
        ("((((((((((((((((", Reason.UNREADABLE),
    ],
)
def test_a_crafted_header_has_a_reason_and_takes_no_memory(header, expected):
    tracemalloc.start()
    try:
        assert reason(crafted(header)) == expected
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_any_bytes_are_an_array_or_a_reason(head, tail):
    for data in (head, SIGNATURE + b"\x01\x00" + head, saved(np.zeros((4, 4), np.uint8))[:60] + tail):
        try:
            decode_npy(data, LIMIT)
        except BadImageError:
            continue
