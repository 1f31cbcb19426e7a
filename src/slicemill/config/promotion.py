"""What a user can set of the pointer to the model in use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PromoteConfig:
    """Make a run the model in use: a pointer file names it, and score, predict and report follow it."""

    run: str
    """Folder or s3:// URI of a training run or a committee."""
    pointer: str
    """File or s3:// URI of the pointer, or models:/NAME@ALIAS of MLflow. --as is the same."""


@dataclass(frozen=True)
class RollbackConfig:
    """Make the run that was promoted before this one the model in use again."""

    pointer: str
    """File or s3:// URI of the pointer. --as is the same."""
