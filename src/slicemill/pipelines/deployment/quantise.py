"""A trained network in int8, if scans that were held back say that it costs no more than was allowed."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from functools import partial
from statistics import mean
from typing import Any

from slicemill.config import QuantiseConfig
from slicemill.core.evaluation.seen import was_seen
from slicemill.core.splits import refuse_leaky
from slicemill.errors import ConfigError, InputError
from slicemill.io.lake.reader import read_lake_scan, read_scans
from slicemill.io.lake.rows import ScanRow
from slicemill.io.lake.splits import read_split
from slicemill.io.places import Run
from slicemill.io.run.card import Card, sha256
from slicemill.io.run.pointer import open_model
from slicemill.io.run.quantisation import Quantisation, save_quantisation
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Scans that the log names, those that lose most.
_NAMED = 5


def run(config: QuantiseConfig) -> dict[str, Any]:
    """Quantise, judge, store if the loss is small enough, and return the summary; no Spark is needed.

    Nothing is stored, and the status falls short, if the loss is larger. Raises ConfigError for a model that
    is no segmentation network of its own, InputError for a part without labelled scans, MachineError where
    ONNX Runtime is not installed.
    """
    # Imports of torch, which a refused argument does without.
    from slicemill.model.predicting.engines.int8 import int8_engine, int8_self_test, int8_versions, quantised
    from slicemill.model.predicting.engines.run_network import RunNetwork
    from slicemill.model.predicting.predictor import NetworkPredictor
    from slicemill.model.predicting.quantising import calibration_inputs, compare

    reference = open_model(config.model)
    model, card = reference.run, reference.card
    _check_model(card)
    home = canonical(config.lake)
    rows = _labelled_rows(home, config)
    _refuse_trained(card, rows, config.part)
    scans = [partial(read_lake_scan, home, row) for row in rows]
    data = quantised(RunNetwork(model, card), calibration_inputs(scans, card))
    int8 = NetworkPredictor(card, int8_engine(data, 1))
    losses, speeds = compare(model, scans, NetworkPredictor.load(model, "cpu", "fp32", threads=1), int8)
    for scan in sorted(losses, key=lambda scan: scan.loss, reverse=True)[:_NAMED]:
        log.info("%s: Dice %.4f, in int8 %.4f", scan.scan_id, scan.dice, scan.dice_int8)
    quantisation = Quantisation(
        model_id=card.model_id,
        file_sha256=sha256(data),
        split=config.split,
        part=config.part,
        scans=len(losses),
        dice=mean(scan.dice for scan in losses),
        dice_int8=mean(scan.dice_int8 for scan in losses),
        largest_loss=max(scan.loss for scan in losses),
        self_test=int8_self_test(int8.engine, len(card.channels), card.input_size),
        versions=int8_versions(),
    )
    error = _excess(config, quantisation)
    if error is None:
        with sole_writer(model, f"quantise-{uuid.uuid4().hex[:12]}") as fence:
            save_quantisation(fence, model, data, quantisation)
    return _summary(model, quantisation, speeds, error)


def _check_model(card: Card) -> None:
    refuse_leaky(card.split, "--model")
    if card.task != "segment" or card.members:
        raise ConfigError(
            "--model can't be quantised",
            expected="one network that segments",
            found="a committee" if card.members else f"a network to {card.task}",
        )


def _labelled_rows(home: Uri, config: QuantiseConfig) -> list[ScanRow]:
    patients = read_split(home, config.split).patients(config.part)
    rows = [row for row in read_scans(home) if row.patient_id in patients and row.labelled_slices]
    if not rows:
        raise InputError(
            f"the part {config.part} of the split {config.split} has no labelled scans",
            expected="scans with masks, to judge by",
            found="none",
        )
    return rows


def _refuse_trained(card: Card, rows: Sequence[ScanRow], part: str) -> None:
    """Raise ConfigError for patients that the network was trained on, of whose masks it is too sure."""
    trained = {"train": card.patients.get("train", ())}
    patients = {row.patient_id for row in rows if was_seen(trained, row.patient_id)}
    if patients:
        raise ConfigError(
            f"the model was trained on patients of the part {part}",
            expected="a part that it was not trained on",
            found=f"{len(patients)} patients",
            advice="Name the split that it was trained with, and its val or test part.",
        )


def _excess(config: QuantiseConfig, quantisation: Quantisation) -> str | None:
    """What the loss exceeds, in words; None if it is small enough."""
    mean_loss = quantisation.dice - quantisation.dice_int8
    for loss, limit, flag, what in (
        (mean_loss, config.max_loss, "--max-loss", "of the mean Dice"),
        (quantisation.largest_loss, config.max_scan_loss, "--max-scan-loss", "of one scan's Dice"),
    ):
        if not loss <= limit:
            return f"int8 costs {loss:.4f} {what}, more than {flag} {limit:g}: nothing was stored"
    return None


def _summary(
    model: Uri, quantisation: Quantisation, rates: dict[str, float], error: str | None
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "job": "quantise",
        "status": "data_short" if error else "done",
        "model_id": quantisation.model_id,
        "scans": quantisation.scans,
        "dice": quantisation.dice,
        "dice_int8": quantisation.dice_int8,
        "largest_loss": quantisation.largest_loss,
        "slices_per_cpu_second": rates,
        "file": None if error else display(Run(model).quantised),
    }
    return summary | ({"error": error} if error else {})
