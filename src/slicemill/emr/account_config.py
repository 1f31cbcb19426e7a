"""What a user can set for the account: a release of slicemill in it, and what runs there.

One frozen dataclass per subcommand; a line under each field is its help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from slicemill.errors import ConfigError

ArchiveKind: TypeAlias = Literal["cpu", "gpu"]
Platform: TypeAlias = Literal["linux/amd64", "linux/arm64"]

#: Where the guide keeps the outputs of the foundation stack.
SITE_FILE = "site.json"


@dataclass(frozen=True)
class PackageConfig:
    """Build the environment archives in Docker, and write the release into the account: build and upload."""

    site: str = SITE_FILE
    """JSON file with the foundation stack's outputs."""
    kind: tuple[ArchiveKind, ...] = ("cpu", "gpu")
    """Archive to build. Repeat the flag for several."""
    platform: Platform = "linux/amd64"
    """Processors of the nodes: linux/arm64 for Graviton."""
    out: str = "dist"
    """Folder for the archives."""
    workspace: str | None = None
    """s3:// URI of a Workspace's folder, which gets the notebooks with EMR's kernel and session settings."""
    root: str = "."
    """Checkout of slicemill that everything is built from."""
    dry_run: bool = False
    """Print the commands, and build and write nothing."""

    def __post_init__(self) -> None:
        if not self.kind:
            raise ConfigError("there is nothing to build", expected="--kind cpu or gpu", found="none")


@dataclass(frozen=True)
class UploadConfig:
    """Write a release into an account: archives, jobs, bootstrap actions, notebooks."""

    site: str = SITE_FILE
    """JSON file with the foundation stack's outputs."""
    archive: tuple[str, ...] = ()
    """Packed environment, as build_env.sh wrote it. Repeat the flag for cpu and gpu."""
    workspace: str | None = None
    """s3:// URI of a Workspace's folder, which gets the notebooks with EMR's kernel and session settings."""
    root: str = "."
    """Checkout of slicemill that jobs, bootstrap actions and notebooks are taken from."""
    dry_run: bool = False
    """Check the archives, print what would be written, and write nothing."""


@dataclass(frozen=True)
class ListConfig:
    """List the clusters of slicemill that have not ended."""

    site: str | None = None
    """JSON file with the foundation stack's outputs, for its region; AWS's own settings by default."""
    dry_run: bool = False
    """Print the exact request and send nothing."""


@dataclass(frozen=True)
class InstancesConfig:
    """Ask EC2 what instance types hold, and remember it for --core-type."""

    type: tuple[str, ...]
    """Instance type. Repeat the flag for several."""
    site: str | None = None
    """JSON file with the foundation stack's outputs, for its region; AWS's own settings by default."""
    dry_run: bool = False
    """Print the exact request and send nothing."""


@dataclass(frozen=True)
class ReleaseNetworkConfig:
    """Before the foundation stack is deleted: remove what EMR left in its network, which would stop that."""

    site: str = SITE_FILE
    """JSON file with the foundation stack's outputs."""
    dry_run: bool = False
    """Print the exact requests that look, and send nothing."""


@dataclass(frozen=True)
class StatusConfig:
    """Say how a cluster and its steps are."""

    cluster: str
    """Cluster id."""
    site: str | None = None
    """JSON file with the foundation stack's outputs, for its region; AWS's own settings by default."""
    dry_run: bool = False
    """Print the exact requests and send nothing."""


@dataclass(frozen=True)
class LogsConfig:
    """Print the end of a step's logs, those of the failed steps by default."""

    cluster: str
    """Cluster id."""
    site: str | None = None
    """JSON file with the foundation stack's outputs, for its region; AWS's own settings by default."""
    step: tuple[str, ...] = ()
    """Step id. Repeat the flag for several."""
    lines: int = 40
    """Lines of each log."""
    dry_run: bool = False
    """Print the exact requests and send nothing."""

    def __post_init__(self) -> None:
        if self.lines < 1:
            raise ConfigError("--lines is out of range", expected="at least 1", found=self.lines)


@dataclass(frozen=True)
class TerminateConfig:
    """End a cluster; what it wrote stays."""

    cluster: str
    """Cluster id."""
    site: str | None = None
    """JSON file with the foundation stack's outputs, for its region; AWS's own settings by default."""
    dry_run: bool = False
    """Print the exact request and send nothing."""
