"""Writing into a training run's folder from its ranks, while the run's driver holds the folder's lock.

Ranks outlive a driver that was killed, by seconds or for as long as Spark takes to notice; by then another
training may go on in the same folder.
"""

from __future__ import annotations

from slicemill.core.training.plan import TrainPlan
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.storage.fence import Fence
from slicemill.types import Uri


def write_bytes(plan: TrainPlan, uri: Uri, data: bytes) -> None:
    """Write a file of the run that a plan is for. Raises LockLostError once its driver's lock is gone."""
    if plan.lock_token is None:
        storage.write_bytes(uri, data)
    else:
        Fence(Run.of(plan).home, plan.lock_token).write(uri, data)


def write_json(plan: TrainPlan, uri: Uri, value: object) -> None:
    """Write a value as `storage.write_json` does; see `write_bytes`."""
    write_bytes(plan, uri, storage.json_bytes(value))
