"""Where bytes live: local paths, file:// and s3:// URIs, made canonical.

A canonical URI is `file:///absolute/path` or `s3://bucket/key`, without a slash at its end.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from slicemill.errors import ConfigError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_S3_SCHEMES = ("s3", "s3a", "s3n")


def canonical(uri: str) -> str:
    """Return `uri` as a canonical URI; raise ConfigError for a scheme that slicemill does not read."""
    match = _SCHEME.match(uri)
    scheme = match.group(1).lower() if match else "file"
    if scheme in _S3_SCHEMES:
        rest = uri[match.end() if match else 0 :].strip("/")
        if not rest:
            raise ConfigError("an S3 URI lacks its bucket", expected="s3://bucket/prefix", found=repr(uri))
        return f"s3://{rest}"
    if scheme != "file" or not uri:
        raise ConfigError("no such kind of URI", expected="a local path, file:// or s3://", found=repr(uri))
    if uri.startswith("file://"):
        path = unquote(uri[len("file://") :])
    else:
        # Spark and Hadoop print local URIs with one slash.
        path = uri[len("file:") :] if uri.startswith("file:/") else uri
    return f"file://{os.path.abspath(os.path.expanduser(path))}"


def is_s3(uri: str) -> bool:
    """Whether a canonical URI is in S3."""
    return uri.startswith("s3://")


def join(base: str, *parts: str) -> str:
    """Append path parts to a canonical URI."""
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def relative(uri: str, base: str) -> str:
    """Path of `uri` below `base`; both canonical."""
    return uri.removeprefix(base.rstrip("/") + "/")


def local_path(uri: str) -> Path:
    """Path of a canonical file URI."""
    return Path(uri.removeprefix("file://"))


def display(uri: str) -> str:
    """A canonical URI as a person types it: a plain path where it is local."""
    return uri.removeprefix("file://")
