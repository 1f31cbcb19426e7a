"""A first look at the places that a job was given, before anything is started or written.

A wrong path, a missing bucket or no credentials is one line at once, not a trace after Spark has started.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slicemill.config import (
    CommitteeConfig,
    CrossvalConfig,
    IngestConfig,
    PredictConfig,
    PromoteConfig,
    QuantiseConfig,
    ReportConfig,
    ScoreConfig,
    ServeConfig,
    SplitConfig,
    SweepConfig,
    TrainConfig,
)
from slicemill.errors import InputError, StorageError
from slicemill.io import storage
from slicemill.io.lake.card import require_lake
from slicemill.io.lake.splits import Split, read_split
from slicemill.io.places import Run
from slicemill.io.run.finished import refuse_finished
from slicemill.io.run.registry import is_registered
from slicemill.io.storage.faults import S3Error, named
from slicemill.io.storage.uri import canonical, display, is_s3, local_path
from slicemill.types import Uri


@dataclass(frozen=True)
class Places:
    """What a job reads and writes, as its arguments name it; None where an argument was left out."""

    folders: tuple[str | None, ...] = ()
    files: tuple[str | None, ...] = ()
    lakes: tuple[str | None, ...] = ()
    models: tuple[str | None, ...] = ()
    runs: tuple[str | None, ...] = ()
    outputs: tuple[str | None, ...] = ()
    splits: tuple[str | None, ...] = ()
    """Names of splits in the lakes."""


def places(config: object) -> Places:
    """The places in a job's configuration."""
    match config:
        case IngestConfig():
            return Places(config.raw, (config.clinical, config.patients), outputs=(config.lake,))
        case SplitConfig():
            return Places(files=(config.holdout,), lakes=(config.lake,), outputs=(config.lake,))
        case ScoreConfig():
            folders = (config.out,) if config.verify else config.raw or ()
            return Places(folders, (), (config.lake,), (config.model,), (), (config.out,), (config.split,))
        case PredictConfig():
            return Places(models=(config.model,), outputs=(config.out,))
        case ServeConfig():
            return Places(models=(config.model,))
        case QuantiseConfig():
            return Places(lakes=(config.lake,), models=(config.model,), splits=(config.split,))
        case PromoteConfig():
            return Places(models=(config.run,))
        case TrainConfig() | CrossvalConfig() | SweepConfig():
            weights = config.init_weights
            file = weights if weights and "/" in weights else None
            return Places((), (file,), (config.lake,), outputs=(config.out,), splits=(config.split,))
        case CommitteeConfig():
            return Places(config.model, outputs=(config.out,))
        case ReportConfig():
            return Places((config.scores,), (), (config.lake,), (), (config.run,), (config.out,))
    return Places()


def look(config: object) -> None:
    """Raise ConfigError, InputError or StorageError for the first place that the job can't use."""
    uris = places(config)
    for uri in _uris(uris.folders):
        if not _holds_something(uri):
            raise _missing(uri, "an existing folder with something in it")
    for uri in _uris(uris.files):
        _reachable(uri)
        if not storage.exists(uri):
            raise _missing(uri, "an existing file")
    for uri in _uris(uris.lakes):
        _reachable(uri)
        require_lake(uri)
        for name in filter(None, uris.splits):
            _look_at_split(config, read_split(uri, name))
    for uri in _uris(text for text in uris.models if text and not is_registered(text)):
        _reachable(uri)
        if not storage.exists(Run(uri).card) and not storage.exists(uri):
            if _holds_something(uri) and storage.exists(Run(uri).plan):
                raise _unfinished(uri)
            raise _missing(uri, "a folder that slicemill train wrote, with model.json, or a pointer")
    for uri in _uris(text for text in uris.runs if text and not is_registered(text)):
        if not _holds_something(uri) and not storage.exists(uri):
            raise _missing(uri, "the folder of a run, or a pointer to one")
    for uri in _uris(uris.outputs):
        _writable(uri)
        if type(config) is TrainConfig:
            refuse_finished(uri, config)


def _look_at_split(config: object, split: Split) -> None:
    """Raise ConfigError for a fold or a part that the split does not have."""
    if type(config) is TrainConfig:
        split.parts(config.fold, config.val_share)
    if isinstance(config, ScoreConfig):
        split.patients(config.part)


def _uris(texts: Iterable[str | None]) -> list[Uri]:
    return [canonical(text) for text in texts if text]


def _missing(uri: Uri, expected: str) -> InputError:
    exists = not is_s3(uri) and local_path(uri).exists()
    content = "another thing" if exists else "nothing there"
    return InputError(
        f"{display(uri)} can't be read", expected=expected, found=content, advice="Check the spelling."
    )


def _unfinished(uri: Uri) -> InputError:
    return InputError(
        f"{display(uri)} is a training that has not finished",
        expected="a run with its model card",
        found="a plan, and no model.json",
        advice="Wait for it, or go on with it: slicemill train --resume.",
    )


def _holds_something(uri: Uri) -> bool:
    if is_s3(uri):
        return _reachable(uri)
    with named(uri, "listed"):
        return local_path(uri).is_dir()


def _reachable(uri: Uri) -> bool:
    """Whether something lies below a URI; raise StorageError for a bucket that asking again does not open."""
    if not is_s3(uri):
        return True
    with named(uri, "reached"):
        try:
            return bool(storage.s3().holds_something(uri))
        except S3Error as error:
            if error.code in _LASTING:
                raise
            # Busy storage: the job itself has the patience to ask again.
            return True


def _writable(uri: Uri) -> None:
    if is_s3(uri):
        _reachable(uri)
        return
    path = _nearest(local_path(uri))
    if path.is_dir() and os.access(path, os.W_OK | os.X_OK):
        return
    raise StorageError(
        f"{display(uri)} can't be written",
        expected="a folder that this user may write to",
        found=f"no right to write to {path}" if path.is_dir() else f"{path}, which is a file",
        advice="Give write access, or choose another folder.",
    )


def _nearest(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


#: Refusals that asking again does not change.
_LASTING = frozenset(
    (
        "AccessDenied",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ConnectTimeoutError",
        "EndpointConnectionError",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidToken",
        "NoCredentialsError",
        "NoRegionError",
        "NoSuchBucket",
        "ParamValidationError",
        "PartialCredentialsError",
        "PermanentRedirect",
        "ProfileNotFound",
        "SignatureDoesNotMatch",
        "SSLError",
        "ValueError",
    )
)
