"""Compare what lies in a score folder with the hashes in its manifest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slicemill.config import ScoreConfig
from slicemill.errors import InputError
from slicemill.io.scores.check import EntryCheck, check_entry
from slicemill.io.scores.tables import entries
from slicemill.io.storage.uri import canonical, display
from slicemill.io.verification import verification
from slicemill.types import Uri

if TYPE_CHECKING:
    from slicemill.spark.session import Session

log = logging.getLogger(__name__)

#: Outputs that the summary names; the log names all.
_NAMED = 20
#: Entries up to which outputs are read in this process if there is no session: some hundred megabytes.
_HERE_ENTRIES = 200


def run(config: ScoreConfig, spark: Session | None = None) -> dict[str, Any]:
    """Check every output; the status falls short if one is missing or changed.

    No model is needed. Raises InputError for a folder without scores.
    """
    home = canonical(config.out)
    manifest = entries(home)
    if not manifest:
        raise InputError(
            f"{display(home)} holds no scores",
            expected="a folder that slicemill score wrote",
            found="no manifest",
        )
    checks = _checks(spark, home, [entry.uri for entry in manifest])
    counts = {"verified_scans": len(manifest), "verified_outputs": sum(check.outputs for check in checks)}
    return verification("score", counts, checks, _NAMED)


def _checks(spark: Session | None, home: Uri, manifest: Sequence[Uri]) -> list[EntryCheck]:
    if spark is None and len(manifest) <= _HERE_ENTRIES:
        return [check_entry(home, entry) for entry in manifest]
    from slicemill.spark.score import check_entries
    from slicemill.spark.session import given_or_new

    with given_or_new(spark, "verify") as session:
        return check_entries(session, home, manifest)
