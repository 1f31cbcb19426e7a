"""Compare what lies in a score folder with the hashes in its manifest."""

from __future__ import annotations

import logging
from typing import Any

from slicemill.config import ScoreConfig
from slicemill.errors import InputError
from slicemill.io.scores.tables import entries
from slicemill.io.storage.uri import canonical, display
from slicemill.spark.score import check_entries
from slicemill.spark.session import Session

log = logging.getLogger(__name__)

#: Outputs that the summary names; the log names all.
_NAMED = 20


def run(config: ScoreConfig, spark: Session) -> dict[str, Any]:
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
    checks = check_entries(spark, home, [entry.uri for entry in manifest])
    missing = sorted(name for check in checks for name in check.missing)
    changed = sorted(name for check in checks for name in check.changed)
    for what, names in (("missing", missing), ("changed", changed)):
        for name in names:
            log.error("%s: %s", what, name)
    return {
        "job": "score",
        "status": "data_short" if missing or changed else "done",
        "verified_scans": len(manifest),
        "verified_outputs": sum(check.outputs for check in checks),
        "missing": len(missing),
        "changed": len(changed),
        "named": [*missing, *changed][:_NAMED],
    }
