"""Ray Data: files read and decoded in tasks, an actor a core that holds the network. Needs `ray[data]`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray
from network import BATCH, Network, command_line, write_masks
from spark_udf import decoded


class Predict:
    """An actor: the network, loaded once."""

    def __init__(self, run: str, engine: str, out: str) -> None:
        self._network, self._out = Network(run, engine, threads=1), Path(out)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Predict and write a batch of files."""
        probabilities = self._network.probabilities(decoded(batch["bytes"]))
        paths = [Path(path) for path in batch["path"]]
        write_masks(paths, probabilities, self._network.threshold, self._out)
        return {"path": batch["path"]}


if __name__ == "__main__":
    work, cores = command_line(), len(os.sched_getaffinity(0))
    # Reading needs a share of a core too, or the actors would take them all and wait for ever.
    ray.init(num_cpus=cores + 1, include_dashboard=False, log_to_driver=False)
    paths = [str(path) for path in work.raw.rglob("*[0-9].tif")]
    dataset = ray.data.read_binary_files(paths, include_paths=True)
    dataset.map_batches(
        Predict,
        fn_constructor_args=(work.run, work.engine, str(work.out)),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=cores),
        num_cpus=1,
    ).materialize()
