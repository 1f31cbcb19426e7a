"""Where things lie inside a training run; its model and card are in `slicemill.io.card`."""

from __future__ import annotations

from slicemill.io.uri import join


def plan(run: str) -> str:
    """What was planned: settings, files of each rank, normalisation of each scan."""
    return join(run, "plan.json")


def metrics(run: str) -> str:
    """One JSON object a line, one line an epoch."""
    return join(run, "metrics.jsonl")


def learning_rates(run: str) -> str:
    """What the learning-rate finder tried, and what the loss did."""
    return join(run, "learning_rate.json")


def figures(run: str) -> str:
    """Folder of pictures that training draws: examples-epoch-NNN.png, what the network saw and predicted."""
    return join(run, "figures")


def curves(run: str) -> str:
    """PNG of the numbers in metrics.jsonl over epochs."""
    return join(run, "figures", "curves.png")


def examples(run: str, epoch: int) -> str:
    """PNG of a few validation slices as they were predicted after this epoch."""
    return join(run, "figures", f"examples-epoch-{epoch:03d}.png")


def tensorboard(run: str) -> str:
    """Folder of TensorBoard's event files."""
    return join(run, "tensorboard")


def tracking(run: str) -> str:
    """The run of an MLflow store that this run is logged to."""
    return join(run, "tracking.json")


def last_checkpoint(run: str) -> str:
    """The checkpoint to go on from."""
    return join(run, "checkpoints", "last.safetensors")


def best_weights(run: str) -> str:
    """The weights of the epoch that would be published now."""
    return join(run, "checkpoints", "best.safetensors")


def started(run: str) -> str:
    """Says that all ranks of the latest launch had met."""
    return join(run, "failures", "started")


def failure(run: str, rank: int) -> str:
    """Why a rank stopped."""
    return join(run, "failures", f"rank-{rank}.json")
