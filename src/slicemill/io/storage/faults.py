"""What a failure of storage means: is the file gone, or did storage only not give it?

The rule stands here alone. A file is absent if storage itself says that this path or key does not exist.
Everything else passes: rights, keys, archives, outages, limits of the machine. It says nothing about the
file, so nothing may be set aside, skipped or taken for missing because of it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from slicemill.errors import InputError, MissingFileError, StorageError
from slicemill.io.storage.uri import display, is_s3
from slicemill.types import Uri

#: Of the codes that S3 documents, those that say that an object does not exist. 404 is what HEAD answers,
#: which has no body to carry a code. A missing bucket is none of them: it says nothing about the object.
ABSENT_CODES = frozenset(("NoSuchKey", "NoSuchVersion", "404"))

_CREDENTIALS = "Check your credentials and the bucket's policy, then run it again."
_REGION = "Check the bucket's region (AWS_REGION), then run it again."
_ADVICE = {
    "AccessDenied": _CREDENTIALS,
    "AllAccessDisabled": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "ProfileNotFound": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "TokenRefreshRequired": _CREDENTIALS,
    "403": _CREDENTIALS,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "ConnectTimeoutError": "Check AWS_ENDPOINT_URL and the network, then run it again.",
    "EndpointConnectionError": "Check AWS_ENDPOINT_URL and the network, then run it again.",
    "InvalidObjectState": "Restore the object from its archive, then run it again.",
    "NoSuchBucket": "Check the bucket's name.",
    "BrokenBody": "Look for what changes bytes on their way, then run it again.",
    "PreconditionFailed": "It was replaced since it was listed: run it again.",
    "RequestTimeTooSkewed": "Set this machine's clock, then run it again.",
}
_LOCAL_ADVICE = {
    errno.EACCES: "Give this user access, then run it again.",
    errno.EPERM: "Give this user access, then run it again.",
    errno.EROFS: "Make the file system writable, or choose another folder.",
    errno.ENOSPC: "Make room, then run it again.",
    errno.EDQUOT: "Make room, then run it again.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), then run it again.",
    errno.ENFILE: "Raise the limit of open files, then run it again.",
}
#: Of what is done with a file, that for which its absence is an answer.
_READING = ("read", "listed", "looked up")


class S3Error(OSError):
    """What S3 answered, or what kept it from answering: S3's code, or the name of botocore's error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


def from_s3(code: str, message: str) -> OSError:
    """An error of S3 as an OSError; FileNotFoundError only if the object does not exist."""
    if code in ABSENT_CODES:
        return FileNotFoundError(errno.ENOENT, f"{code}: {message}")
    return S3Error(code, message)


def is_absence(error: OSError) -> bool:
    """Whether storage says that the file does not exist."""
    return isinstance(error, FileNotFoundError | NotADirectoryError)


@contextmanager
def named(uri: Uri, act: str) -> Iterator[None]:
    """Raise every OSError as what it means for `uri`, which could not be `act` ("read", "written")."""
    try:
        yield
    except OSError as error:
        raise _meaning(uri, act, error) from error


def _meaning(uri: Uri, act: str, error: OSError) -> InputError | StorageError:
    problem = f"{display(uri)} can't be {act}"
    if act in _READING and is_absence(error):
        return MissingFileError(
            problem, expected="an existing path", found="nothing there", advice="Check the spelling."
        )
    return StorageError(
        problem,
        expected="storage that answers and lets this user in",
        found=(str(error) if is_s3(uri) else error.strerror) or str(error) or type(error).__name__,
        advice=_advice(error),
    )


def _advice(error: OSError) -> str:
    if isinstance(error, S3Error):
        if error.code.startswith("KMS."):
            return "Check the rights to the bucket's key, then run it again."
        return _ADVICE.get(error.code, "Run it again.")
    return _LOCAL_ADVICE.get(error.errno or 0, "Run it again.")
