"""Any of lake, run and scores to one HTML page."""

from __future__ import annotations

import uuid
from typing import Any

from slicemill.config import ReportConfig
from slicemill.io import storage
from slicemill.io.places import Reports
from slicemill.io.results import Results, read_results, require_inputs
from slicemill.io.run.pointer import followed
from slicemill.io.storage.fence import Fence
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display
from slicemill.pages.build import build
from slicemill.pages.contact_sheet import sheet


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
        sheets = _draw_sheets(results, fence) if config.contact_sheets else None
        report = build(results, config.scan, sheets)
        uri = Reports(home).page
        fence.write(uri, report.html)
    return {
        "job": "report",
        "status": "done",
        "figures": report.figures,
        "bytes": len(report.html),
        "contact_sheets": sheets,
        "report": display(uri),
    }


def _draw_sheets(results: Results, fence: Fence) -> int:
    """Write a picture of each scored scan whose pixels are here; return their number.

    Pictures of an earlier report's scans go.
    """
    places = Reports(fence.home)
    uris = set[str]()
    for row in results.scores.scans if results.scores else ():
        scored = results.predicted_scan(row)
        if scored is not None:
            uri = places.sheet(row.scan_id)
            fence.write(uri, sheet(scored, row))
            uris.add(uri)
    for file in storage.list_or_none(places.sheets):
        if file.uri not in uris:
            fence.remove(file.uri)
    return len(uris)
