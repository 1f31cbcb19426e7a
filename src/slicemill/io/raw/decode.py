"""A slice's files, TIFF or PNG by their names, to its image and its mask."""

from __future__ import annotations

from slicemill.core.rasters.form import Acceptance, Raster
from slicemill.core.rasters.images import SlicePixels, accept_image, slice_pixels
from slicemill.core.rasters.masks import MaskFile, accept_mask, mask_file
from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.io.raw.png import decode_png
from slicemill.io.raw.tiff import decode_tiff


def decode_slice(data: bytes, max_pixels: int, name: str = "slice.tif") -> SlicePixels:
    """The image of a slice from the bytes of the file `name`; raises BadImageError if there is none."""
    return slice_pixels(_decode(data, max_pixels, name, accept_image))


def decode_mask(data: bytes, max_pixels: int, name: str = "slice_mask.tif") -> MaskFile:
    """The mask in the bytes of the file `name`, still to be judged by its scan's; raises BadImageError."""
    return mask_file(_decode(data, max_pixels, name, accept_mask))


def _decode(data: bytes, max_pixels: int, name: str, accept: Acceptance) -> Raster:
    decode = decode_png if name.lower().endswith(".png") else decode_tiff
    try:
        return decode(data, max_pixels, accept)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # No input is known that gets here; if one does, it is that file's fault and not the scan's.
        raise BadImageError(
            Reason.UNREADABLE, "the decoder failed", type(error).__name__, "a readable file"
        ) from error
