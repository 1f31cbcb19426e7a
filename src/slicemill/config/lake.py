"""What a user can set of the lake: phantoms, ingest, splits."""

from __future__ import annotations

from dataclasses import dataclass

from slicemill.config.checks import require, single_text_as_tuple
from slicemill.errors import ConfigError

#: Scan folders named like the public data set, <project>_<institution>_<patient>_<yyyymmdd>. Hyphens
#: of official barcodes are taken too, and so are a barcode's sample and a series behind the date.
PUBLIC_SCAN_PATTERN = (
    r"(?P<patient_id>[A-Za-z0-9]+[_-](?P<institution>[A-Za-z0-9]+)[_-][A-Za-z0-9]+)"
    r"(?:-\d{2}[A-Za-z](?:-[A-Za-z0-9]+)*)?[_-](?P<scan_date>\d{8})(?:[_-].+)?"
)

#: What stood there before; lakes that were made with it go on with the one above.
FIRST_SCAN_PATTERN = (
    r"(?P<patient_id>[A-Za-z0-9]+_(?P<institution>[A-Za-z0-9]+)_[A-Za-z0-9]+)_(?P<scan_date>\d{8})"
)

#: Largest slice that is accepted unless asked otherwise, in pixels.
MAX_PIXELS = 4_194_304


@dataclass(frozen=True)
class PhantomConfig:
    """Write synthetic head scans with tumours in the public data set's layout. No patient is in them."""

    out: str
    """Folder or s3:// URI for the scan folders."""
    scans: int = 12
    """Scans to write."""
    seed: int = 0
    """Seed: the same seed writes the same bytes."""
    size: int = 256
    """Rows and columns of a slice, in pixels."""

    def __post_init__(self) -> None:
        require(self.scans >= 1, "--scans", "at least 1", self.scans)
        require(32 <= self.size <= 1024, "--size", "32 to 1024", self.size)


@dataclass(frozen=True)
class IngestConfig:
    """Turn raw TIFF slices into the lake: slices, scans, quarantine and profile."""

    raw: tuple[str, ...]
    """Folder or s3:// URI that holds scan folders at any depth. Repeat the flag for several."""
    lake: str
    """Folder or s3:// URI of the lake."""
    clinical: str | None = None
    """Clinical table (CSV with any delimiter), joined by patient. Without it, earlier columns stay."""
    patients: str | None = None
    """List of patients: a CSV with the columns scan and patient. Without it, the last one holds on."""
    max_bad_fraction: float = 1.0
    """Exit with code 3 if more than this fraction of files was set aside (everything is still written)."""
    scan_pattern: str = PUBLIC_SCAN_PATTERN
    """How scan folders are named: public, tcga, patient_date, patient_visit, patient/study,
    patient/study/series, or a regular expression with the groups patient_id, institution, scan_date."""
    prune: bool = False
    """Remove scans from the lake whose folder is gone, down to the last object."""
    bucket: int = 0
    """Group patients into this many patient_bucket= partitions instead of one partition a patient."""
    max_pixels: int = MAX_PIXELS
    """Largest slice that is accepted, in pixels."""
    retry_quarantined: bool = False
    """Read those scans again too that have something in quarantine, though no file changed."""
    verify: bool = False
    """Only compare raw files and the lake's data with the hashes of what was read; write nothing."""

    def __post_init__(self) -> None:
        single_text_as_tuple(self)
        require(bool(self.raw), "--raw", "at least one URI", "none")
        require(0 <= self.max_bad_fraction <= 1, "--max-bad-fraction", "0 to 1", self.max_bad_fraction)
        require(self.bucket >= 0, "--bucket", "0 or more", self.bucket)
        require(self.max_pixels >= 1, "--max-pixels", "at least 1", self.max_pixels)


@dataclass(frozen=True)
class ForgetConfig:
    """Remove patients from lake, splits, scores and reports; name what can't be reached."""

    patient: tuple[str, ...]
    """Patient id, as the lake has it. Repeat the flag for several."""
    lake: str | None = None
    """Folder or s3:// URI of the lake."""
    scores: tuple[str, ...] = ()
    """Folder or s3:// URI of scores. Repeat the flag for several."""
    report: tuple[str, ...] = ()
    """Folder or s3:// URI of reports: pages that name the patient are removed. Repeat the flag."""
    run: tuple[str, ...] = ()
    """Folder or s3:// URI of a training run: says whether it was trained on the patient. Repeat the flag."""

    def __post_init__(self) -> None:
        single_text_as_tuple(self)
        require(all(self.patient) and bool(self.patient), "--patient", "at least one patient id", "none")
        if not (self.lake or self.scores or self.report or self.run):
            raise ConfigError(
                "nothing to forget the patient in",
                expected="at least one of --lake, --scores, --report, --run",
                found="none",
            )


@dataclass(frozen=True)
class SplitConfig:
    """Assign patients to parts or folds; no patient is ever on two sides."""

    lake: str
    """Folder or s3:// URI of the lake."""
    name: str
    """Name of the split."""
    fractions: str | None = None
    """Shares of train, val and test, such as 0.7,0.15,0.15 (the default if nothing else is asked)."""
    folds: int | None = None
    """Number of folds, at least 3, instead of fractions: one is tested, one validates, the others train."""
    holdout: str | None = None
    """File with scan or patient ids, one a line, that become the test part, instead of fractions."""
    val_fraction: float = 0.1
    """With --holdout: share of the remaining patients that becomes val."""
    seed: int = 0
    """Seed of the assignment."""

    def __post_init__(self) -> None:
        ways = [flag for flag, value in self._ways().items() if value is not None]
        if len(ways) > 1:
            raise ConfigError(
                "a split is made one way",
                expected="one of " + ", ".join(self._ways()),
                found=", ".join(ways),
            )
        if not self.name or any(mark in self.name for mark in "/\\. "):
            raise ConfigError(
                "--name is not a plain name", expected="letters, digits, - and _", found=repr(self.name)
            )
        if self.folds is not None:
            # One fold is tested and one validates: with two, none is left to train on.
            require(self.folds >= 3, "--folds", "at least 3", self.folds)
        require(0 < self.val_fraction < 1, "--val-fraction", "between 0 and 1", self.val_fraction)
        self.part_fractions()

    def _ways(self) -> dict[str, object]:
        return {"--fractions": self.fractions, "--folds": self.folds, "--holdout": self.holdout}

    def part_fractions(self) -> tuple[float, float, float]:
        """Shares of train, val and test, which add up to 1."""
        text = self.fractions or "0.7,0.15,0.15"
        try:
            shares = tuple(float(share) for share in text.split(","))
        except ValueError:
            shares = ()
        if len(shares) != 3 or not min(shares) >= 0 or not abs(sum(shares) - 1) <= 1e-6:
            raise ConfigError(
                "--fractions is wrong",
                expected="three shares that add up to 1, such as 0.7,0.15,0.15",
                found=text,
            )
        return shares[0], shares[1], shares[2]
