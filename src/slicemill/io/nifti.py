"""A scan's planes as one NIfTI-1 file (.nii.gz), which the viewers of radiology open.

The affine comes from the spacing alone. TIFF slices say nothing of the patient's position: columns are taken
to run from right to left, rows from front to back and slices upwards, as axial slices are drawn by
convention, so a viewer shows each slice as its file does.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.config import MAX_PIXELS
from slicemill.errors import InputError, MachineError
from slicemill.types import Spacing

#: Distance of slices, rows and columns, in millimetres.

#: Bytes between the header and the numbers: no extensions.
_NO_EXTENSIONS = bytes(4)
#: Bytes before the numbers.
_HEADER = 352
#: Longest description that the header holds.
_DESCRIPTION = 79


def require_nibabel() -> Any:
    """The package that writes headers; raise MachineError where it is not installed."""
    try:
        import nibabel
    except ImportError as error:
        raise MachineError(
            "--nifti needs a package that is not installed",
            expected="nibabel",
            found="none",
            advice="pip install 'slicemill[nifti]', on every worker.",
        ) from error
    return nibabel


def nifti(
    planes: npt.NDArray[np.uint8],
    numbers: Sequence[int],
    spacing: Spacing | None,
    description: str,
    scale: float = 1.0,
) -> bytes:
    """A compressed NIfTI-1 file, equal for equal arguments.

    `planes`: uint8, axes (S, H, W), S at least 1; `numbers` of the slices, ascending. A slice whose number is
    missing between them is a plane of zeros, and the description counts these. Stored axes are (columns,
    rows, slices). A reader multiplies stored numbers by `scale`. Without a spacing voxels are cubes of 1 and
    the units unknown. Raises MachineError without nibabel.
    """
    nibabel = require_nibabel()
    volume = np.zeros((numbers[-1] - numbers[0] + 1, *planes.shape[1:]), np.uint8)
    volume[np.asarray(numbers) - numbers[0]] = planes
    depth, rows, columns = spacing or (1.0, 1.0, 1.0)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(volume.shape[::-1])
    header.set_zooms((columns, rows, depth))
    affine = np.diag((-columns, -rows, depth, 1.0))
    header.set_qform(affine, code="aligned")
    header.set_sform(affine, code="aligned")
    header.set_xyzt_units("mm" if spacing else "unknown")
    header.set_slope_inter(scale, 0.0)
    header["magic"] = b"n+1"
    header["vox_offset"] = header.sizeof_hdr + len(_NO_EXTENSIONS)
    missing = len(volume) - len(planes)
    words = [
        description,
        "" if spacing else "spacing unknown",
        f"{missing} slices missing" if missing else "",
    ]
    header["descrip"] = "; ".join(filter(None, words)).encode("ascii", "replace")[:_DESCRIPTION]
    # C order of (slices, rows, columns) is the Fortran order of the stored axes.
    return gzip.compress(header.binaryblock + _NO_EXTENSIONS + volume.tobytes(), compresslevel=6, mtime=0)


def read_planes(data: bytes, numbers: Sequence[int], name: str) -> dict[int, npt.NDArray[np.uint8]]:
    """The stored bytes of a file that `nifti` wrote, axes (H, W), by slice number; `numbers` are ascending.

    No package is needed. Raises InputError for any other file; `name` says which it was.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            shape = struct.unpack_from("<8h", file.read(_HEADER), 40)[3:0:-1]
            # Before anything is unpacked: a few bytes can say that they are terabytes.
            if shape[0] != numbers[-1] - numbers[0] + 1 or not 0 < shape[1] * shape[2] <= MAX_PIXELS:
                raise _other_file(name, f"axes {shape}")
            voxels = file.read(shape[0] * shape[1] * shape[2])
        volume = np.frombuffer(voxels, np.uint8).reshape(shape)
    except (EOFError, OSError, ValueError, struct.error, zlib.error) as error:
        raise _other_file(name, str(error)) from None
    return {number: volume[number - numbers[0]] for number in numbers}


def _other_file(name: str, content: str) -> InputError:
    return InputError(
        f"{name} is not the volume that was scored",
        expected="a byte a voxel, and a plane for each scored slice",
        found=content,
        advice="Score the scan again, with --nifti and --probabilities.",
    )
