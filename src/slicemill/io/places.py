"""Where everything lies inside a lake, a run and a score folder: the only file that spells these paths.

Each class takes the canonical URI of its folder; `docs/storage.md` is rendered from the docstrings here.
"""

from __future__ import annotations

from dataclasses import dataclass

from slicemill.core.stored_names import escaped
from slicemill.core.training.plan import TrainPlan
from slicemill.io.storage.uri import join, stored_uri
from slicemill.types import Uri


def partition(folder: Uri, column: str, value: str) -> Uri:
    """Hive partition folder, its value escaped as Spark escapes it."""
    return join(folder, f"{column}={escaped(value)}")


def file_name(scan_id: str, suffix: str) -> str:
    """Name of a scan's own file."""
    return escaped(scan_id) + suffix


@dataclass(frozen=True)
class Lake:
    """Places inside a lake."""

    home: Uri

    @property
    def card(self) -> Uri:
        """JSON that says which schema version and layout a lake has."""
        return join(self.home, "lake.json")

    @property
    def commits(self) -> Uri:
        """Folder of ingest's commits: one small JSON a scan, written last."""
        return join(self.home, "_commits")

    @property
    def slices(self) -> Uri:
        """Folder of the slices table."""
        return join(self.home, "slices")

    @property
    def profile(self) -> Uri:
        """Folder of the profile table."""
        return join(self.home, "profile")

    def data_name(self, scan_id: str) -> str:
        """Name of a scan's file of slices, and of its file in the profile."""
        return file_name(scan_id, ".parquet")

    @property
    def patients(self) -> Uri:
        """JSON of patients by scan id, as `--patients` last gave them."""
        return join(self.home, "patients.json")

    @property
    def profile_summary(self) -> Uri:
        """JSON of data set totals and findings."""
        return join(self.home, "profile.json")

    @property
    def scans(self) -> Uri:
        """Folder of the scans table."""
        return join(self.home, "scans")

    @property
    def totals(self) -> Uri:
        """Folder of the totals table: histograms and heat map, a row a scan."""
        return join(self.home, "totals")

    @property
    def quarantine(self) -> Uri:
        """Folder of the quarantine table."""
        return join(self.home, "quarantine")

    @property
    def splits(self) -> Uri:
        """Folder of the splits: a table and a card each."""
        return join(self.home, "splits")

    def split(self, name: str) -> Uri:
        """Folder of a split's table."""
        return join(self.splits, name)

    def split_card(self, name: str) -> Uri:
        """JSON with a split's method, seed and hash."""
        return join(self.splits, f"{name}.json")


@dataclass(frozen=True)
class Run:
    """Places inside a training run."""

    home: Uri

    @classmethod
    def of(cls, plan: TrainPlan) -> Run:
        """Places inside the run that a plan is for."""
        return cls(stored_uri(plan.settings.out))

    @property
    def plan(self) -> Uri:
        """What was planned: settings, files of each rank, normalisation of each scan."""
        return join(self.home, "plan.json")

    @property
    def weights(self) -> Uri:
        """The published weights."""
        return join(self.home, "model.safetensors")

    @property
    def card(self) -> Uri:
        """The model card, written last."""
        return join(self.home, "model.json")

    @property
    def quantised(self) -> Uri:
        """The network in int8, as an ONNX file."""
        return join(self.home, "model.int8.onnx")

    @property
    def quantisation(self) -> Uri:
        """What int8 cost on scans that were held back; vouches for its file by its hash."""
        return join(self.home, "quantisation.json")

    def member(self, model_id: str) -> Uri:
        """Folder of a committee's member, a run as others are."""
        return join(self.home, "members", model_id)

    @property
    def metrics(self) -> Uri:
        """One JSON object a line, one line an epoch."""
        return join(self.home, "metrics.jsonl")

    @property
    def learning_rates(self) -> Uri:
        """What the learning-rate finder tried, and what the loss did."""
        return join(self.home, "learning_rate.json")

    @property
    def figures(self) -> Uri:
        """Folder of pictures that training draws: what the network saw and predicted after an epoch."""
        return join(self.home, "figures")

    @property
    def curves(self) -> Uri:
        """PNG of the numbers in metrics.jsonl over epochs."""
        return join(self.figures, "curves.png")

    def examples(self, epoch: int) -> Uri:
        """PNG of a few validation slices as they were predicted after this epoch."""
        return join(self.figures, f"examples-epoch-{epoch:03d}.png")

    @property
    def tensorboard(self) -> Uri:
        """Folder of TensorBoard's event files."""
        return join(self.home, "tensorboard")

    @property
    def tracking(self) -> Uri:
        """The run of an MLflow store that this run is logged to."""
        return join(self.home, "tracking.json")

    @property
    def last_checkpoint(self) -> Uri:
        """The checkpoint to go on from."""
        return join(self.home, "checkpoints", "last.safetensors")

    @property
    def best_weights(self) -> Uri:
        """Where earlier releases kept the weights to publish; now they are in the checkpoint."""
        return join(self.home, "checkpoints", "best.safetensors")

    @property
    def checkpoints(self) -> Uri:
        """Folder of what a run needs to go on."""
        return join(self.home, "checkpoints")

    @property
    def failures(self) -> Uri:
        """Folder of why ranks stopped, and of the mark that they had met."""
        return join(self.home, "failures")

    @property
    def started(self) -> Uri:
        """Says that all ranks of the latest launch had met."""
        return join(self.home, "failures", "started")

    def failure(self, rank: int) -> Uri:
        """Why a rank stopped."""
        return join(self.home, "failures", f"rank-{rank}.json")


@dataclass(frozen=True)
class Scores:
    """Places inside a score folder."""

    home: Uri

    @property
    def slices(self) -> Uri:
        """Folder of the predicted slices, partitioned by patient."""
        return join(self.home, "slices")

    def scan(self, patient_id: str, scan_id: str, model_id: str) -> Uri:
        """A scan's own file of predicted slices, by one model."""
        folder = partition(self.slices, "patient_id", patient_id)
        return join(folder, file_name(scan_id, f"--{model_id}.parquet"))

    @property
    def patients(self) -> Uri:
        """Folder of the table with a row per patient's scan."""
        return join(self.home, "patients")

    @property
    def patients_csv(self) -> Uri:
        """The same table as CSV."""
        return join(self.home, "patients.csv")

    @property
    def quarantine(self) -> Uri:
        """Folder of the quarantine table."""
        return join(self.home, "quarantine")

    def masks(self, scan_id: str) -> Uri:
        """Folder of a scan's predicted masks."""
        return join(self.home, "masks", scan_id)

    def volumes(self, scan_id: str) -> Uri:
        """Folder of a scan's NIfTI volumes and outline pictures, where they were asked for."""
        return join(self.home, "volumes", scan_id)

    @property
    def manifest(self) -> Uri:
        """Folder of the manifest: one row a file, a file a finished scan."""
        return join(self.home, "manifest")

    def summary(self, suffix: str) -> Uri:
        """JSON of the last run's evaluation; the suffix tells later models of one folder apart."""
        return join(self.home, f"summary{suffix}.json")

    @property
    def card(self) -> Uri:
        """JSON that says which schema version a score folder has, and which model wrote to it first."""
        return join(self.home, "scores.json")


@dataclass(frozen=True)
class Crossval:
    """Places inside a cross-validation's folder."""

    home: Uri

    def run(self, fold: int) -> Uri:
        """Folder of a fold's training run."""
        return join(self.home, f"fold-{fold}", "run")

    def scores(self, fold: int) -> Uri:
        """Folder of a fold's scores, of the patients that its model never saw."""
        return join(self.home, f"fold-{fold}", "scores")

    @property
    def result(self) -> Uri:
        """JSON of the result over all folds, with every patient's Dice."""
        return join(self.home, "crossval.json")

    @property
    def page(self) -> Uri:
        """The result as a page that needs nothing beside itself."""
        return join(self.home, "crossval.html")

    @property
    def tracking(self) -> Uri:
        """The run of an MLflow store whose children are those of the folds."""
        return join(self.home, "tracking.json")

    @property
    def worst(self) -> Uri:
        """CSV of the worst scans, with why."""
        return join(self.home, "worst.csv")


@dataclass(frozen=True)
class Associations:
    """Places inside the folder that `associate` writes."""

    home: Uri

    @property
    def features(self) -> Uri:
        """Folder of the table of shape features: a row a scan's mask."""
        return join(self.home, "features")

    @property
    def features_csv(self) -> Uri:
        """The same table as CSV."""
        return join(self.home, "features.csv")

    @property
    def tests(self) -> Uri:
        """JSON with every test, and how predicted features agree with true ones."""
        return join(self.home, "associations.json")

    @property
    def markdown(self) -> Uri:
        """The tests as tables of a Markdown page."""
        return join(self.home, "associations.md")

    @property
    def page(self) -> Uri:
        """The tests as a page that needs nothing beside itself."""
        return join(self.home, "associations.html")


@dataclass(frozen=True)
class Reports:
    """Places inside the folder that `report` writes."""

    home: Uri

    @property
    def page(self) -> Uri:
        """The report, a page that needs nothing beside itself."""
        return join(self.home, "index.html")

    @property
    def sheets(self) -> Uri:
        """Folder of contact sheets, where they were asked for."""
        return join(self.home, "sheets")

    def sheet(self, scan_id: str) -> Uri:
        """WebP of all slices of a scored scan with outlines."""
        return join(self.sheets, file_name(scan_id, ".webp"))


@dataclass(frozen=True)
class Predictions:
    """Places inside the folder that `predict` writes."""

    home: Uri

    def mask(self, name: str, suffix: str) -> Uri:
        """Predicted mask of a slice, named after the slice's file."""
        return join(self.home, f"{name}_pred.{suffix}")

    def extra(self, name: str) -> Uri:
        """A NIfTI volume, where it was asked for."""
        return join(self.home, name)

    @property
    def outlines(self) -> Uri:
        """PNG of the slices with the outline of what was predicted."""
        return join(self.home, "outlines.png")

    @property
    def table(self) -> Uri:
        """CSV with a row per slice: its file, tumour pixels, probability, and Dice where it has a mask."""
        return join(self.home, "slices.csv")


@dataclass(frozen=True)
class Export:
    """Places inside the folder that `export` writes."""

    home: Uri

    @property
    def model(self) -> Uri:
        """The network: the fused graph, for network input as `model.input` makes it."""
        return join(self.home, "model.onnx")

    @property
    def card(self) -> Uri:
        """The model card, as the training run has it."""
        return join(self.home, "model.json")

    @property
    def facts(self) -> Uri:
        """JSON with the file's SHA-256, its input and output, and how far it is from torch; written last."""
        return join(self.home, "export.json")
