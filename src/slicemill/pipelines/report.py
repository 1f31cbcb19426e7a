"""Any of lake, run and scores to one HTML page."""

from __future__ import annotations

import uuid
from typing import Any

from slicemill.config import ReportConfig
from slicemill.io.results import read_results, require_inputs
from slicemill.io.run.pointer import followed
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display, join
from slicemill.pages.build import build

PAGE = "index.html"


def run(config: ReportConfig, spark: object = None) -> dict[str, Any]:
    """Draw the page, write it below `out` and return the summary; no Spark session is needed.

    Raises InputError for an input that is not there, LakeVersionError for one of another schema version,
    BusyError while another run writes to `out`.
    """
    lake, scores = (canonical(uri) if uri else None for uri in (config.lake, config.scores))
    run, home = followed(config.run) if config.run else None, canonical(config.out)
    require_inputs(lake, run, scores)
    # Locked from before anything is read: a patient who is forgotten meanwhile would come back with the page.
    with sole_writer(home, f"report-{uuid.uuid4().hex[:12]}") as fence:
        results = read_results(lake, run, scores, [canonical(uri) for uri in config.raw])
        report = build(results, config.scan)
        uri = join(home, PAGE)
        fence.write(uri, report.html)
    return {
        "job": "report",
        "status": "done",
        "figures": report.figures,
        "bytes": len(report.html),
        "report": display(uri),
    }
