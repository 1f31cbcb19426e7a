from __future__ import annotations

from collections.abc import Iterator

import pytest
from s3_proxy import FaultProxy, running

from slicemill.io.storage import s3_client


@pytest.fixture
def proxy(s3: str) -> Iterator[FaultProxy]:
    """A fault proxy that this process's S3 clients go through, while the test lasts."""
    with running(s3) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        s3_client._client.cache_clear()
        yield proxy
    s3_client._client.cache_clear()
