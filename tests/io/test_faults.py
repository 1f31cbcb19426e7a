from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from s3_proxy import FaultProxy, refused

from slicemill.errors import MissingFileError, StorageError
from slicemill.io import storage
from slicemill.io.storage import s3_client
from slicemill.io.storage.uri import canonical, join

#: Codes of S3 that say that an object is not there; all others pass.
ABSENT = {"NoSuchKey", "NoSuchVersion"}
#: Codes that S3's table of errors lacks: of KMS, as S3 passes them on, of its token service and of networks.
MORE = {
    "KMS.DisabledException": 400,
    "KMS.InvalidKeyUsageException": 400,
    "KMS.KMSInvalidStateException": 400,
    "KMS.NotFoundException": 400,
    "InvalidSecurity": 403,
    "RequestLimitExceeded": 503,
    "Throttling": 400,
    "XAmzContentSHA256Mismatch": 400,
    "": 502,
}


def documented_codes() -> Iterator[tuple[str, int]]:
    """Every error code in S3's own model of its API, with its HTTP status."""
    shape = boto3.client("s3", region_name="us-east-1").meta.service_model.shape_for("Error")
    text = re.sub("<[^>]*>", " ", shape.members["Code"].documentation)
    for code, status in re.findall(r"Code: +([A-Z][A-Za-z]{3,}).*?HTTP Status Code: +(\d+|N/A|Code)", text):
        yield code, int(status) if status.isdigit() else 400


CODES = {**dict(documented_codes()), **MORE}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tries again: S3's codes are asked about, not patience."""
    client = s3_client.client
    monkeypatch.setattr(s3_client, "client", lambda *, hasty=False: client(hasty=True))


def test_the_table_of_s3s_codes_is_read_whole() -> None:
    assert len(CODES) > 75
    assert {"AccessDenied", "ExpiredToken", "InvalidObjectState", "NoSuchKey", "SlowDown"} <= CODES.keys()


@pytest.mark.usefixtures("hasty")
def test_of_every_code_that_s3_documents_only_a_missing_key_means_absence(
    bucket: str, proxy: FaultProxy
) -> None:
    uri = canonical(f"{bucket}/raw/scan_1.tif")
    storage.write_bytes(uri, b"1")
    for code, status in CODES.items():
        proxy.heal()
        proxy.spoil(refused(code, status), part="scan_1.tif")
        with pytest.raises((MissingFileError, StorageError)) as caught:
            storage.read_bytes(uri)
        assert isinstance(caught.value, MissingFileError) == (code in ABSENT), code
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(".")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_a_look_up_that_is_refused_is_not_taken_for_absence(
    bucket: str, proxy: FaultProxy, status: int
) -> None:
    uri = canonical(f"{bucket}/lake/lake.json")
    assert not storage.exists(uri)
    proxy.spoil(refused("", status))
    with pytest.raises(StorageError, match="can't be looked up"):
        storage.exists(uri)
    with pytest.raises(StorageError, match="can't be listed"):
        storage.list_or_none(canonical(f"{bucket}/lake"))


@pytest.mark.parametrize(
    "number",
    [
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOMEM,
    ],
)
def test_on_disk_only_a_missing_path_means_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    uri = canonical(str(tmp_path / "scan_1.tif"))
    for below in (uri, join(uri, "deeper")):
        with pytest.raises(MissingFileError, match="nothing there"):
            storage.read_bytes(below)

    def fail(*_: Any) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(StorageError, match=re.escape(os.strerror(number))):
        storage.read_bytes(uri)


def test_errors_say_what_to_do(bucket: str, proxy: FaultProxy) -> None:
    uri = canonical(f"{bucket}/raw/scan_1.tif")
    for code, status, advice in (
        ("ExpiredToken", 400, "credentials"),
        ("InvalidObjectState", 403, "archive"),
        ("KMS.DisabledException", 400, "key"),
        ("PermanentRedirect", 301, "region"),
        ("RequestTimeTooSkewed", 403, "clock"),
    ):
        proxy.heal()
        proxy.spoil(refused(code, status), part="scan_1.tif")
        with pytest.raises(StorageError, match=f"{code}.*{advice}"):
            storage.read_bytes(uri)
