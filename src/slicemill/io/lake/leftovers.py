"""What lies in a lake and belongs to no commit: data of scans that were withdrawn, drafts of killed runs."""

from __future__ import annotations

from collections.abc import Iterable

from slicemill.io import storage
from slicemill.io.lake.rows import ScanRow
from slicemill.io.places import Lake
from slicemill.io.storage.fence import Fence
from slicemill.io.storage.uri import is_s3, join
from slicemill.types import Uri


def remove_leftovers(fence: Fence, scans: Iterable[ScanRow], unsettled: Iterable[str]) -> int:
    """Remove every data file that no scan accounts for, and every draft; return how many.

    `unsettled` are scans that have a commit and no row here: their data stays. Call it while the lake is
    locked, after the tables were published.
    """
    home, lake = fence.home, Lake(fence.home)
    owned = {join(home, row.data_uri) for row in scans}
    owned |= {_profile_of(uri, lake) for uri in owned}
    names = {lake.data_name(scan_id) for scan_id in unsettled}
    leftovers = [
        file.uri
        for folder in (lake.slices, lake.profile)
        for file in storage.list_or_none(folder)
        if not file.uri.endswith("/") and file.uri not in owned and _name(file.uri) not in names
    ]
    if not is_s3(home):
        leftovers += [uri for folder in (lake.commits, lake.scans, lake.totals) for uri in _drafts(folder)]
    storage.each(fence.remove, leftovers, home)
    for folder in (lake.slices, lake.profile):
        storage.remove_empty_folders(folder)
    return len(leftovers)


def _profile_of(data_uri: Uri, lake: Lake) -> Uri:
    return join(lake.profile, data_uri.removeprefix(lake.slices))


def _name(uri: Uri) -> str:
    return uri.rpartition("/")[2]


def _drafts(folder: Uri) -> list[Uri]:
    """Files on disk that were not finished before their writer was killed."""
    return [
        file.uri
        for file in storage.list_or_none(folder)
        if _name(file.uri).startswith(".") and file.uri.endswith(".draft")
    ]
