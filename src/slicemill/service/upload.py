"""A request's bytes to a scan, and a prediction to an answer's bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slicemill.core.scans.scan import Scan
from slicemill.io.picture import png_mask
from slicemill.io.raw.loose import LooseFile, loose_scan
from slicemill.io.raw.numpy_file import SIGNATURE
from slicemill.io.raw.tiff_write import encode_mask
from slicemill.io.storage.uri import file_uri
from slicemill.types import ScanMasks

#: First bytes of a body, and the suffix of a file that begins so.
_SIGNATURES: Mapping[bytes, str] = {
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"II+\0": "tif",
    b"MM\0+": "tif",
    b"\x89PNG": "png",
    SIGNATURE: "npy",
}
#: Media type of an answer by its format.
MEDIA_TYPES: Mapping[str, str] = {"tif": "image/tiff", "png": "image/png", "npy": "application/octet-stream"}


class RefusalError(Exception):
    """A request that can't be answered with a mask: the status code, and what was wrong, in one sentence."""

    def __init__(self, status: int, error: str, expected: object, found: object) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.expected = str(expected)
        self.found = str(found)


@dataclass(frozen=True)
class DecodedBody:
    """A decoded body: its format by its first bytes, and its slices."""

    kind: str
    scan: Scan


def body_kind(body: bytes) -> str:
    """The format that a body begins as; raise RefusalError for any other."""
    for signature, kind in _SIGNATURES.items():
        if body.startswith(signature):
            return kind
    raise RefusalError(415, "the body is no image", "TIFF, PNG or .npy bytes", f"{len(body)} other bytes")


def decode_body(body: bytes, max_pixels: int, max_slices: int) -> DecodedBody:
    """The slices in a body, checked and decoded as scoring does; RefusalError if none is good."""
    kind = body_kind(body)
    file = LooseFile(file_uri(f"/upload.{kind}"), body)
    scan = loose_scan([file], "upload", max_pixels)
    if not scan.slices:
        (problem, *_) = scan.problems
        raise RefusalError(422, problem.detail, problem.expected, problem.found)
    if len(scan.slices) > max_slices:
        raise RefusalError(413, "too many slices", f"at most {max_slices}", len(scan.slices))
    return DecodedBody(kind, scan)


def answer_format(query: str | None, upload: DecodedBody) -> str:
    """The answer's format: the body's own unless another is asked for; RefusalError for a misfit."""
    kind = query or upload.kind
    if kind not in MEDIA_TYPES:
        raise RefusalError(400, "format is not known", ", ".join(MEDIA_TYPES), "another word")
    if kind != "npy" and len(upload.scan.slices) > 1:
        raise RefusalError(400, "several slices don't fit into one picture", "format=npy", f"format={kind}")
    return kind


def encode_masks(masks: ScanMasks, kind: str) -> bytes:
    """Masks (S, H, W) in a format: a picture of 0 and 255, or an array of 0 and 1, (H, W) if there is one."""
    if kind == "tif":
        return encode_mask(masks[0])
    if kind == "png":
        return png_mask(masks[0])
    sink = io.BytesIO()
    np.save(sink, masks[0] if len(masks) == 1 else masks, allow_pickle=False)
    return sink.getvalue()
