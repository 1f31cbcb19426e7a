"""What slicemill stores: every table's columns with type, unit and meaning, written once.

Arrow's rendering is in `slicemill.io.parquet`. Images are uint8 bytes in C order with axes (H, W, C); masks
are uint8 0/1 bytes with axes (H, W); per-channel columns are lists of length C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Raised when a stored column changes its name, type or meaning.
SCHEMA_VERSION = 1

Kind = Literal["string", "int32", "int64", "float32", "float64", "bool", "binary", "timestamp", "date"]


@dataclass(frozen=True)
class Column:
    """One stored column.

    `repeated` makes it a list; `nullable` says that a row may hold null there.
    """

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    nullable: bool = False
    repeated: bool = False


@dataclass(frozen=True)
class Table:
    """One stored table: its columns, and the columns that its folders are named after."""

    name: str
    columns: tuple[Column, ...]
    partition: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in stored order."""
        return tuple(column.name for column in self.columns)


def _text(name: str, meaning: str, *, nullable: bool = False, repeated: bool = False) -> Column:
    return Column(name, "string", meaning, nullable=nullable, repeated=repeated)


def _count(name: str, meaning: str, unit: str = "", *, nullable: bool = False) -> Column:
    return Column(name, "int64", meaning, unit, nullable)


def _real(name: str, meaning: str, unit: str = "", *, nullable: bool = False) -> Column:
    return Column(name, "float64", meaning, unit, nullable)


def _per_channel(name: str, meaning: str) -> Column:
    return Column(name, "float64", f"{meaning}, one per channel", "grey value", repeated=True)


def _by_probability() -> tuple[Column, ...]:
    """Counts that reliability, and Dice at other thresholds, are computed from."""
    names = {
        "voxels_by_probability": "voxels of labelled slices in each twentieth of probability",
        "tumour_by_probability": "those of them that are tumour",
    }
    return tuple(
        Column(name, "int64", f"{meaning}; null without truth", "voxel", nullable=True, repeated=True)
        for name, meaning in names.items()
    )


SCAN_ID = _text("scan_id", "name of the scan: its raw folder")
PATIENT_ID = _text("patient_id", "patient that the scan belongs to, from the scan pattern")
SLICE_INDEX = Column("slice_index", "int32", "number of the slice in its file name")
MODEL_ID = _text("model_id", "first 16 hex digits of the SHA-256 of model.safetensors")
SCHEMA = Column("schema_version", "int32", "schema version that the row was written with")

#: Order of the statistics that a slice and a scan carry for each channel.
STATISTICS = ("min", "max", "mean", "std", "p01", "p10", "p50", "p90", "p99")

SLICES = Table(
    "slices",
    (
        SCAN_ID,
        SLICE_INDEX,
        Column("height", "int32", "rows of the image", "pixel"),
        Column("width", "int32", "columns of the image", "pixel"),
        Column("channels", "int32", "channels of the image"),
        Column("image", "binary", "uint8 image, axes (H, W, C), C order", "grey value"),
        Column("mask", "binary", "uint8 0/1 mask, axes (H, W); null if none", nullable=True),
        _text("mask_status", "present, absent, or rejected (a mask file was there and was bad)"),
        _count("tumour_pixels", "pixels of the mask that are 1", "pixel", nullable=True),
        _text("source_uri", "URI of the image file"),
        _text("source_fingerprint", "SHA-256 of the slice's pixels and mask, wherever they came from"),
        _text("conversion", "what decoding changed, by the stated rules", nullable=True),
        SCHEMA,
    ),
    partition=("patient_id",),
)

PROFILE = Table(
    "profile",
    (
        SCAN_ID,
        SLICE_INDEX,
        Column("channel", "int32", "channel, 0 pre-contrast, 1 FLAIR, 2 post-contrast"),
        *(_real(name, f"{name} of the channel", "grey value") for name in STATISTICS),
        _real("zero_share", "share of pixels that are 0"),
        Column("histogram", "int32", "pixels of each grey value, 256 bins", repeated=True),
        Column("copy_of", "int32", "lower channel that this one repeats", nullable=True),
        Column("blank", "bool", "every pixel of the channel has one value"),
        _count("tumour_pixels", "area of the tumour", "pixel", nullable=True),
        Column("tumour_box", "int32", "top, left, bottom, right; empty if none", repeated=True),
        _real("tumour_row", "centroid's row", "pixel", nullable=True),
        _real("tumour_column", "centroid's column", "pixel", nullable=True),
        SCHEMA,
    ),
    partition=("patient_id",),
)

SCANS = Table(
    "scans",
    (
        PATIENT_ID,
        SCAN_ID,
        Column("scan_date", "date", "date in the scan's name", nullable=True),
        _text("institution", "institution in the scan's name", nullable=True),
        _count("slices", "slices in the lake"),
        _count("labelled_slices", "slices with a usable mask"),
        _count("tumour_slices", "labelled slices whose mask is not empty"),
        _real("tumour_fraction", "tumour_slices / labelled_slices, 0 without labels"),
        _real("tumour_voxel_fraction", "tumour pixels / pixels of labelled slices"),
        _count("tumour_pixels", "tumour pixels over all slices", "pixel"),
        _count("rejected_masks", "slices whose mask file was bad"),
        Column("height", "int32", "rows of each slice", "pixel"),
        Column("width", "int32", "columns of each slice", "pixel"),
        *(_per_channel(name, f"{name} over all slices") for name in STATISTICS),
        _text("missing_sequences", "sequences whose channel copies FLAIR or holds one value", repeated=True),
        Column("slice_gaps", "int32", "slice numbers missing in between", repeated=True),
        Column("blank_slices", "int32", "slices of one single value", repeated=True),
        _count("copied_channel_slices", "slices with a channel that repeats another"),
        Column(
            "implausible_masks",
            "int32",
            "slices whose mask covers implausibly much; null from an earlier release",
            repeated=True,
            nullable=True,
        ),
        _text(
            "doubts",
            "implausible masks, saturation and lost contrast, in words; null from an earlier release",
            repeated=True,
            nullable=True,
        ),
        _count("quarantined", "files of this scan that were set aside"),
        _text("data_uri", "the scan's Parquet file, relative to the lake"),
        _text("source_fingerprint", "fingerprint of the scan's listing: keys, sizes, ETags or mtimes"),
        _text("content_hash", "SHA-256 over the scan's slices, without URIs"),
        _text("job_id", "ingest run that wrote the scan"),
        SCHEMA,
    ),
)

TOTALS = Table(
    "totals",
    (
        SCAN_ID,
        PATIENT_ID,
        Column("histogram", "int64", "pixels of each grey value, C x 256 flattened", repeated=True),
        Column("heat_map", "int64", "tumour pixels on a 64 x 64 grid, flattened", repeated=True),
        Column("image_hashes", "binary", "SHA-256 of each slice that is not blank", repeated=True),
        SCHEMA,
    ),
)

QUARANTINE = Table(
    "quarantine",
    (
        _text("uri", "file or folder that was set aside"),
        _text("scan_id", "scan that it belongs to", nullable=True),
        _text("reason", "one of slicemill.core.scans.integrity.Reason"),
        _text("detail", "what was wrong, in one sentence"),
        _text("found", "what was found", nullable=True),
        _text("expected", "what was expected", nullable=True),
        _text("job_id", "ingest or scoring run that set it aside"),
        Column("time", "timestamp", "when it was set aside", "UTC"),
        SCHEMA,
    ),
)

SPLIT = Table(
    "split",
    (
        PATIENT_ID,
        _text("part", "train, val or test; null in a split of folds", nullable=True),
        Column("fold", "int32", "fold, from 0; null in a split of parts", nullable=True),
        SCHEMA,
    ),
)

SCORED_SLICES = Table(
    "scored_slices",
    (
        SCAN_ID,
        SLICE_INDEX,
        Column("height", "int32", "rows of the mask", "pixel"),
        Column("width", "int32", "columns of the mask", "pixel"),
        Column(
            "mask",
            "binary",
            "predicted mask, numpy.packbits of (H, W), big-endian bits; null from a classifier",
            nullable=True,
        ),
        _count("tumour_pixels", "predicted tumour pixels; null from a classifier", "pixel", nullable=True),
        _count("true_pixels", "true tumour pixels; null without truth", "pixel", nullable=True),
        _count("overlap_pixels", "pixels in both masks; null without one of them", "pixel", nullable=True),
        Column("max_probability", "float32", "highest tumour probability, or a classifier's own; 5 decimals"),
        _real("dice", "Dice of the slice; null without truth", nullable=True),
        MODEL_ID,
        SCHEMA,
    ),
    partition=("patient_id",),
)

_SCORES = (
    PATIENT_ID,
    SCAN_ID,
    _real("dice", "volumetric Dice over labelled slices; null without truth", nullable=True),
    _real("iou", "volumetric intersection over union", nullable=True),
    _real("slice_mean_dice", "mean over labelled slices of the slice's Dice", nullable=True),
    _real(
        "hd95",
        "95th percentile Hausdorff distance in 3-D",
        "mm; pixel without spacing",
        nullable=True,
    ),
    _count("predicted_volume", "predicted tumour voxels; null from a classifier", "voxel", nullable=True),
    _count("true_volume", "true tumour voxels; null without truth", "voxel", nullable=True),
    _real("predicted_volume_ml", "predicted volume; null without spacing", "millilitre", nullable=True),
    _real("true_volume_ml", "true volume; null without spacing", "millilitre", nullable=True),
    _count("slices", "slices that were scored"),
    _count("labelled_slices", "scored slices with a usable mask"),
    _count("quarantined", "files of the scan that were set aside"),
    _text("warnings", "input drift and data findings, in words", repeated=True),
    _text("options", "test-time options that were on", repeated=True),
    Column("threshold", "float64", "probability from which a pixel is tumour"),
    MODEL_ID,
    Column("scored_at", "timestamp", "when the scan was finished", "UTC"),
    Column(
        "seen",
        "bool",
        "whether the model was trained or validated on the patient; null where its card does not say",
        nullable=True,
    ),
    _text("engine", "what computed the network: name, version, arithmetic", nullable=True),
    _real("engine_difference", "largest probability difference from torch; null of torch", nullable=True),
    _real("engine_mask_share", "share of mask pixels that differ from torch's; null of torch", nullable=True),
    _count(
        "missed_voxels",
        "tumour that was missed, away from the border; null without truth",
        "voxel",
        nullable=True,
    ),
    _count("false_voxels", "predicted beside the tumour; null without truth", "voxel", nullable=True),
    _count(
        "border_voxels", "wrong voxels at the border of a match; null without truth", "voxel", nullable=True
    ),
    _real("expected_dice", "Dice to be expected by the model's own probabilities", nullable=True),
    _text(
        "look_first",
        "why to look at this scan first; empty of one that can wait, null of a classifier",
        nullable=True,
        repeated=True,
    ),
    *_by_probability(),
    *(
        Column(
            f"channel_{name}",
            "float64",
            f"{name} over all slices, one per channel; null from an earlier release",
            "grey value",
            nullable=True,
            repeated=True,
        )
        for name in ("mean", "p50", "p90", "p99")
    ),
    Column(
        "spacing",
        "float64",
        "distance of slices, rows and columns, as --spacing gave it; null where it is not known",
        "millimetre",
        nullable=True,
        repeated=True,
    ),
)

SCORED_PATIENTS = Table(
    "scored_patients", (*_SCORES, _text("manifest", "manifest entry that the row was taken from"), SCHEMA)
)

FEATURES = Table(
    "features",
    (
        PATIENT_ID,
        SCAN_ID,
        _text("mask", "predicted or true"),
        _real("volume", "volume of the tumour", "spacing cubed"),
        _real("surface_area", "area of its boundary", "spacing squared"),
        _real("sphericity", "surface of the ball of this volume over the surface"),
        _count("slices", "slices that hold tumour"),
        _count("components", "connected parts, by faces, edges and corners"),
        _real("largest_component", "share of the largest part in the volume"),
        _real("extent_z", "side of the bounding box over slices", "spacing"),
        _real("extent_y", "side of the bounding box over rows", "spacing"),
        _real("extent_x", "side of the bounding box over columns", "spacing"),
        _real("centroid_z", "centre of mass over slices", "spacing"),
        _real("centroid_y", "centre of mass over rows", "spacing"),
        _real("centroid_x", "centre of mass over columns", "spacing"),
        _real("laterality", "columns from the image's middle to the centroid over half of the width"),
        _real("angular_standard_deviation", "of the slice with most tumour, by Buda 2019"),
        _real("bounding_ellipsoid_volume_ratio", "volume over that of the smallest ellipsoid around it"),
        _real("margin_fluctuation", "of the slice with most tumour, by Buda 2019"),
        Column(
            "spacing",
            "float64",
            "distance of slices, rows and columns",
            "millimetre; 1 for voxels",
            repeated=True,
        ),
        MODEL_ID,
        SCHEMA,
    ),
)

MANIFEST = Table(
    "manifest",
    (
        *_SCORES,
        _text("source_fingerprint", "fingerprint of the scan's input"),
        _text("outputs", "files written, relative to the score folder", repeated=True),
        _text("output_hashes", "SHA-256 of each output, in the same order", repeated=True),
        _text("job_id", "scoring run that finished the scan"),
        SCHEMA,
    ),
)
