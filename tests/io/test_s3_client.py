from __future__ import annotations

import pytest
from s3_proxy import FaultProxy, broken_off, changed, flipped

from slicemill.io import storage
from slicemill.io.storage import s3_listing
from slicemill.io.storage.faults import S3Error
from slicemill.io.storage.s3_client import read_tagged, write_if
from slicemill.io.storage.s3_listing import list_keys


@pytest.mark.parametrize("page", [1000, 7])
def test_ranges_together_list_every_key_once(bucket: str, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(s3_listing, "_PAGE", page)
    keys = [f"raw/scan{number // 3:02}/slice{number}.tif" for number in range(70)]
    keys += ["raw/a.csv", "raw/scan05.txt", "raw/zz/late.tif"]
    for key in [*keys, "rawer/other.tif"]:
        storage.write_bytes(f"{bucket}/{key}", b"1")
    assert sorted(uri for uri, *_ in list_keys(f"{bucket}/raw")) == sorted(f"{bucket}/{key}" for key in keys)


def test_a_prefix_of_one_level_is_listed_too(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_listing, "_PAGE", 3)
    for number in range(10):
        storage.write_bytes(f"{bucket}/flat/{number}.tif", b"1")
    assert len(list_keys(f"{bucket}/flat")) == 10


def test_a_missing_bucket_says_nothing_about_its_objects(s3: str) -> None:
    with pytest.raises(S3Error, match="NoSuchBucket"):
        list_keys("s3://slicemill-no-such-bucket/raw")


def test_conditional_writes_have_one_winner(bucket: str) -> None:
    uri = f"{bucket}/lock"
    assert read_tagged(uri) is None
    tag = write_if(uri, b"first", None)
    assert tag is not None
    assert write_if(uri, b"second", None) is None
    newer = write_if(uri, b"refreshed", tag)
    assert newer is not None
    assert write_if(uri, b"late", tag) is None
    assert read_tagged(uri).data == b"refreshed"


@pytest.mark.parametrize("hasty", [False, True])
def test_a_small_object_whose_body_breaks_off_is_read_again(
    bucket: str, proxy: FaultProxy, *, hasty: bool
) -> None:
    uri = f"{bucket}/lock"
    storage.write_bytes(uri, b"of this run")
    for fault in (broken_off, changed(flipped)):
        proxy.spoil(fault, method="GET", part="lock", times=2)
        assert read_tagged(uri, hasty=hasty).data == b"of this run"
    proxy.spoil(broken_off, method="GET", part="lock")
    with pytest.raises(S3Error, match="BrokenBody: 5 times"):
        read_tagged(uri, hasty=hasty)
