"""Where bytes live: local paths, file:// and s3:// URIs, made canonical.

A canonical URI is `file:///absolute/path` or `s3://bucket/key`, without a slash at its end. Its type is
`Uri`, and only this file makes one: `canonical` from what a person typed, `stored_uri` from what slicemill
wrote down earlier, `listed_uri` and `file_uri` from what storage lists, `join` and `parent` from another.
`join` never steps out of its folder. (Discovery, which knows no storage, takes the folders of listed files.)
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from slicemill.errors import ConfigError, InputError
from slicemill.types import Uri

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_S3_SCHEMES = ("s3", "s3a", "s3n")
_CANONICAL = ("file:///", "s3://")
#: Parts of a path that lead elsewhere than down.
_STEPS = frozenset((".", ".."))


def canonical(text: str) -> Uri:
    """What a person typed as a canonical URI; s3a:// and s3n:// mean s3://.

    Raises ConfigError for a scheme that slicemill does not read, and for `..` in an S3 key.
    """
    match = _SCHEME.match(text)
    scheme = match.group(1).lower() if match else "file"
    if scheme in _S3_SCHEMES:
        return _canonical_s3(text[match.end() if match else 0 :].strip("/"), text)
    if scheme != "file" or not text:
        raise ConfigError(
            "this kind of URI is not supported", expected="a local path, file:// or s3://", found=repr(text)
        )
    if text.startswith("file://"):
        path = unquote(text[len("file://") :])
    else:
        # Spark and Hadoop print local URIs with one slash.
        path = text[len("file:") :] if text.startswith("file:/") else text
    if "\0" in path:
        raise ConfigError("a path holds a null character", expected="a path", found=repr(text))
    return file_uri(os.path.abspath(os.path.expanduser(path)))


def _canonical_s3(path: str, text: str) -> Uri:
    if not path:
        raise ConfigError("an S3 URI lacks its bucket", expected="s3://bucket/prefix", found=repr(text))
    if not _STEPS.isdisjoint(path.split("/")):
        raise ConfigError("S3 has no parent folders", expected="a key without '.' and '..'", found=repr(text))
    return Uri(f"s3://{path}")


def stored_uri(text: str) -> Uri:
    """A canonical URI that slicemill wrote down earlier; raise InputError if it is not canonical."""
    if not text.startswith(_CANONICAL) or not _STEPS.isdisjoint(text.split("/")):
        raise InputError(
            "a stored URI is not canonical", expected="file:///path or s3://bucket/key", found=repr(text)
        )
    return Uri(text)


def listed_uri(bucket: str, key: str) -> Uri:
    """URI of an object in a listing."""
    return Uri(f"s3://{bucket}/{key}")


def file_uri(path: str | Path) -> Uri:
    """URI of an absolute local path."""
    return Uri(f"file://{path}")


def is_s3(uri: Uri) -> bool:
    """Whether a canonical URI is in S3; raise ConfigError for one that is not canonical.

    Every function of storage asks this first, so none takes a bucket for a local folder.
    """
    if not uri.startswith(_CANONICAL):
        raise ConfigError(
            "a URI is not canonical",
            expected="file:///path or s3://bucket/key",
            found=repr(str(uri)),
            advice="Pass it through slicemill.io.storage.uri.canonical first.",
        )
    return uri.startswith("s3://")


def join(base: Uri, *parts: str) -> Uri:
    """Append path parts, each of one or more names, to a canonical URI.

    Raises InputError for a part that would lead out of `base`, such as a scan id from a stranger's table.
    """
    names = [name for part in parts for name in part.strip("/").split("/")]
    for name in names:
        if not name or name in _STEPS or "\0" in name:
            raise InputError(
                f"a path leads out of {display(base)}",
                expected="names of files and folders below it",
                found=repr("/".join(parts)),
                advice="Nothing was written. Find out who wrote that name.",
            )
    return Uri("/".join([base.rstrip("/"), *names]))


def require_inside(uri: Uri) -> None:
    """Raise InputError for a URI whose path steps upward: nothing is written or removed there."""
    if not _STEPS.isdisjoint(uri.split("/")):
        raise InputError(
            "a path steps out of its folder",
            expected="a path without '.' and '..'",
            found=repr(str(uri)),
            advice="Nothing was written.",
        )


def parent(uri: Uri) -> Uri:
    """Folder of a file or folder."""
    return Uri(uri.rstrip("/").rpartition("/")[0])


def relative(uri: Uri, base: Uri) -> str:
    """Path of `uri` below `base`."""
    return uri.removeprefix(base.rstrip("/") + "/")


def local_path(uri: Uri) -> Path:
    """Path of a canonical file URI; raise ConfigError for any other."""
    if is_s3(uri):
        raise ConfigError("a local path is needed here", expected="a local path", found=uri)
    return Path(uri.removeprefix("file://"))


def display(uri: Uri) -> str:
    """A canonical URI as a person types it: a plain path where it is local."""
    return uri.removeprefix("file://")
