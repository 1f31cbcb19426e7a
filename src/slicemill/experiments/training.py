"""A training run, from its configuration to its ranks: table rows become a plan, the plan becomes a run."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slicemill.config import TrainConfig
from slicemill.core.evaluation.seen import patient_hashes
from slicemill.core.profiles.drift import training_profile
from slicemill.core.scans.channels import Layout, input_normalisation, layout_for
from slicemill.core.scans.normalise import Rule, from_histogram
from slicemill.core.training.plan import CHANNELS, LabelledFile, TrainPlan, balance, labelled_slices
from slicemill.core.training.sampling import EVERY_SLICE, Sampling, patient_quotas
from slicemill.errors import ConfigError, InputError
from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.lake.rows import ScanRow
from slicemill.io.lake.splits import read_split
from slicemill.io.parquet import read_small
from slicemill.io.places import Lake, Run
from slicemill.io.run.finished import refuse_finished
from slicemill.io.run.tracking_store import RunEntry
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display, join, stored_uri
from slicemill.model.networks.registry import DEFAULT, IMAGENET, RANDOM
from slicemill.schemas import TOTALS
from slicemill.spark.session import Session
from slicemill.spark.train import launch
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Passes over the training part where neither their number nor a time is asked for.
EPOCHS = 24


def launch_plan(plan: TrainPlan, spark: Session) -> dict[str, Any]:
    """Write the plan into its run, train by it, and return the summary of rank 0.

    Raises BusyError if another training writes into the run's folder, and as `refuse_finished` does.
    """
    run = Run.of(plan)
    with sole_writer(run.home, f"train-{uuid.uuid4().hex[:12]}") as fence:
        refuse_finished(run.home, plan.settings)
        if not plan.settings.resume:
            clear_run(run)
        log.info("training on %s and validating on %s", _amount(plan.train), _amount(plan.validation))
        storage.write_bytes(run.plan, plan.to_json().encode())
        return launch(spark, dataclasses.replace(plan, lock_token=fence.token))


def clear_run(run: Run) -> None:
    """Remove what an earlier training left in the run's folder, the card that vouches for it first."""
    folders = (run.figures, run.tensorboard, run.checkpoints, run.failures)
    files = [run.card, run.quantisation, run.quantised, run.weights, run.metrics, run.learning_rates]
    files += [run.tracking, run.plan]
    for uri in (*files, *(file.uri for folder in folders for file in storage.list_or_none(folder))):
        storage.remove(uri)


def resolve(config: TrainConfig) -> TrainConfig:
    """The configuration with canonical URIs, and with what follows from what was left open."""
    return dataclasses.replace(
        config,
        lake=canonical(config.lake),
        out=canonical(config.out),
        init_weights=_canonical_weights(config.init_weights),
        init_from=canonical(config.init_from) if config.init_from else None,
        model=config.model or DEFAULT[config.task],
        epochs=config.epochs or (None if config.budget_minutes else EPOCHS),
        # A rank's working directory may be another.
        track=f"mlflow:sqlite:///{Path.cwd()}/mlflow.db" if config.track == "mlflow" else config.track,
    )


def _canonical_weights(init_weights: str | None) -> str | None:
    return init_weights if init_weights in (None, IMAGENET, RANDOM) else canonical(init_weights)


def parent_entry(config: TrainConfig, record: Uri) -> RunEntry | None:
    """The MLflow run that those of folds or trials are children of, remembered in the file `record`.

    None without --track.
    """
    if config.track is None:
        return None
    out = canonical(config.out)
    parameters = dataclasses.asdict(config) | {"out": display(out), "lake": display(canonical(config.lake))}
    return RunEntry(
        str(resolve(config).track),
        config.experiment,
        config.run_name or out.rpartition("/")[2],
        record,
        parameters,
    )


@dataclass(frozen=True)
class Sides:
    """Scans with a labelled slice, by the side of a split that they are on."""

    train: Sequence[ScanRow]
    val: Sequence[ScanRow]

    @property
    def rows(self) -> list[ScanRow]:
        """Scans of both sides."""
        return [*self.train, *self.val]

    @property
    def patients(self) -> dict[str, list[str]]:
        """Patient of each scan, by side."""
        return {
            "train": [row.patient_id for row in self.train],
            "val": [row.patient_id for row in self.val],
        }


def scans_by_part(config: TrainConfig) -> Sides:
    """Rows of the scans table for train and val, those with a labelled slice.

    Raises InputError if a training patient is on another side too, or if there is nothing to train on.
    """
    rows = read_scans(stored_uri(config.lake))
    parts = read_split(stored_uri(config.lake), config.split).parts(config.fold, config.val_share)
    labelled = [row for row in rows if row.labelled_slices]
    train, val = ([row for row in labelled if parts.get(row.patient_id) == part] for part in ("train", "val"))
    overlap = {row.patient_id for row in train} & {row.patient_id for row in val}
    if overlap:
        raise InputError(
            "patients are on both sides of the split",
            expected="train and val apart",
            found=", ".join(sorted(overlap)[:3]),
        )
    if not train:
        raise InputError(
            f"the split {config.split} has nothing to train on",
            expected="labelled slices of train patients in the lake",
            found=f"{len(rows)} scans in the lake, none of them of a train patient with masks",
            advice="Make the split again, or ingest scans with masks.",
        )
    return Sides(train, val)


def labelled_scans(config: TrainConfig) -> list[ScanRow]:
    """Rows of the scans table of all patients of the split, those with a labelled slice."""
    assigned = read_split(stored_uri(config.lake), config.split).assigned
    rows = read_scans(stored_uri(config.lake))
    return [row for row in rows if row.patient_id in assigned and row.labelled_slices]


def make_plan(config: TrainConfig, sides: Sides, threads: int) -> TrainPlan:
    """Share the files among ranks, and look up what a rank needs to know of each scan."""
    if config.num_processes > len(sides.train):
        raise ConfigError(
            "--num-processes is more than there are scans to share",
            expected=f"at most {len(sides.train)}",
            found=config.num_processes,
        )
    lake = stored_uri(config.lake)
    return TrainPlan(
        settings=resolve(config),
        train=balance(_files(config, sides.train, _sampling(config, sides.train)), config.num_processes),
        validation=balance(_files(config, sides.val, itertools.repeat(EVERY_SLICE)), config.num_processes),
        normalisation=_normalisation(
            lake, {row.scan_id: _layout(config, row) for row in sides.rows}, config.normalisation
        ),
        split_hash=read_split(lake, config.split).hash,
        data_hash=data_hash(sides.rows),
        training_profile=training_profile([row.appearance for row in sides.train]),
        patients=patient_hashes(sides.patients),
        threads=threads,
    )


def _sampling(config: TrainConfig, rows: Sequence[ScanRow]) -> list[Sampling]:
    """How each scan is sampled in an epoch."""
    slices = [row.labelled_slices for row in rows]
    quotas: Sequence[int | None] = [None] * len(rows)
    if config.sampling == "patients":
        quotas = patient_quotas([row.patient_id for row in rows], slices)
    elif config.tumour_share is not None:
        quotas = slices
    return [Sampling(config.oversample, quota, config.tumour_share) for quota in quotas]


def _files(config: TrainConfig, rows: Iterable[ScanRow], sampling: Iterable[Sampling]) -> list[LabelledFile]:
    return [
        LabelledFile(
            scan_id=row.scan_id,
            uri=join(stored_uri(config.lake), row.data_uri),
            labelled_slices=row.labelled_slices,
            layout=_layout(config, row),
            tumour_slices=row.tumour_slices,
            sampling=scan_sampling,
        )
        for row, scan_sampling in zip(rows, sampling, strict=False)
    ]


def _layout(config: TrainConfig, row: ScanRow) -> Layout:
    return layout_for(config.channels, row.missing_sequences)


def _normalisation(home: Uri, scans: Mapping[str, Layout], rule: Rule) -> dict[str, list[list[float]]]:
    points = {}
    table = read_small(Lake(home).totals, TOTALS, ("scan_id", "histogram"))
    for scan_id, counts in zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True):
        if scan_id in scans:
            histogram = np.asarray(counts, dtype=np.int64).reshape(-1, 256)
            if len(histogram) != len(CHANNELS):
                raise InputError(
                    f"scan {scan_id} can't be trained on",
                    expected=f"{len(CHANNELS)} channels",
                    found=len(histogram),
                )
            layout = scans[scan_id]
            points[scan_id] = input_normalisation(from_histogram(histogram, rule), layout).tolist()
    missing = sorted(scans.keys() - points.keys())
    if missing:
        raise InputError(
            "the totals table lacks scans of the scans table",
            expected="one row a scan",
            found=f"none for {', '.join(missing[:3])}",
            advice="Run ingest again.",
        )
    return points


def data_hash(rows: Iterable[ScanRow]) -> str:
    """SHA-256 over the content hashes of scans, in any order."""
    text = "".join(sorted(f"{row.scan_id}\t{row.content_hash}\n" for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()


def _amount(shares: Iterable[tuple[LabelledFile, ...]]) -> str:
    files = [file for share in shares for file in share]
    return f"{labelled_slices(files)} slices of {len(files)} scans"
