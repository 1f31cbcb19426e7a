"""The front door: what `import slicemill` offers to notebooks and scripts, one function a line of work.

Every URI may be a local path, `file://` or `s3://`. Failures that a user can mend are `SlicemillError`s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from slicemill.config import (
    AssociateConfig,
    CommitteeConfig,
    CompareConfig,
    CrossvalConfig,
    ExportConfig,
    ForgetConfig,
    IngestConfig,
    PhantomConfig,
    PredictConfig,
    PromoteConfig,
    QuantiseConfig,
    ReportConfig,
    RollbackConfig,
    ScoreConfig,
    ServeConfig,
    SplitConfig,
    SweepConfig,
    TrainConfig,
)

if TYPE_CHECKING:
    from slicemill.io.lake.tables import LakeTables
    from slicemill.io.results import Results
    from slicemill.io.run.record import RunRecord
    from slicemill.io.scores.results import ScoreTables
    from slicemill.spark.session import Session

#: What a verb says of itself when it is done: the object of a job's last line.
Summary: TypeAlias = dict[str, Any]


def open_lake(uri: str) -> LakeTables:
    """The small tables of a lake, and any scan's pixels.

    Raises InputError if there is no lake, LakeVersionError for one of another schema version.
    """
    from slicemill.io.lake.tables import read_lake
    from slicemill.io.storage.uri import canonical

    return read_lake(canonical(uri))


def open_run(uri: str) -> RunRecord:
    """Card, epochs and pictures of a training run, as far as it has come.

    Raises InputError if there is no such folder, ModelFileError for a card or metrics that can't be read.
    """
    from slicemill.io.run.record import read_run
    from slicemill.io.storage.uri import canonical

    return read_run(canonical(uri))


def open_scores(uri: str, model_id: str | None = None) -> ScoreTables:
    """The scored scans of one model: the one of this id, or the one that scored last.

    Raises InputError if there is no such folder.
    """
    from slicemill.io.scores.results import read_scores
    from slicemill.io.storage.uri import canonical

    return read_scores(canonical(uri), model_id)


def open_results(
    lake: str | None = None, run: str | None = None, scores: str | None = None, raw: Sequence[str] = ()
) -> Results:
    """Any of a lake, a run and its scores together; `raw` are folders of scans that no lake holds.

    Raises InputError for a folder that does not exist, LakeVersionError for one of another schema version.
    """
    from slicemill.io.results import read_results
    from slicemill.io.storage.uri import canonical

    homes = [canonical(uri) if uri else None for uri in (lake, run, scores)]
    return read_results(homes[0], homes[1], homes[2], [canonical(uri) for uri in raw])


def start_session(name: str = "notebook", slots: int = 1) -> Session:
    """A Spark session that stays: the one that is running already, or a new one.

    `slots` tasks can run at once, one a training process. Raises MachineError if Java is missing or too old.
    """
    from slicemill.spark.session import start_session as start

    return start(name, slots=slots)


@contextmanager
def _submitted_session(name: str, spark: Session | None) -> Iterator[Session | None]:
    """Under spark-submit a session at once, though little work could do without.

    In cluster mode YARN gives up on a driver that has opened none after 100 seconds
    (`spark.yarn.am.waitTime`), and a large listing takes longer.
    """
    from slicemill.spark.request import submitted

    if not submitted():
        yield spark
        return
    from slicemill.spark.session import given_or_new

    with given_or_new(spark, name) as session:
        yield session


def phantom(config: PhantomConfig) -> Summary:
    """Write synthetic scans and return the summary."""
    from slicemill.pipelines import phantom as verb

    return verb.run(config)


def ingest(config: IngestConfig, spark: Session | None = None) -> Summary:
    """Turn raw slices into a lake and return the summary.

    Raises InputError for a path that does not exist or holds no slices, ConfigError if the lake was made
    with other settings, BusyError while another run writes to it.
    """
    from slicemill.pipelines import ingest as verb

    with _submitted_session("ingest", spark) as session:
        return verb.run(config, session)


def split(config: SplitConfig) -> Summary:
    """Assign a lake's patients to parts or folds and return the summary.

    Raises InputError if there is no lake, ConfigError if the split exists and was made in another way.
    """
    from slicemill.pipelines import split as verb

    return verb.run(config)


def train(config: TrainConfig, spark: Session | None = None) -> Summary:
    """Train a network on a split and return the summary of rank 0.

    Raises InputError for a lake or split that can't be trained on, TrainingError if a rank dies.
    """
    from slicemill.pipelines import train as verb
    from slicemill.spark.session import given_or_new

    with given_or_new(spark, "train", slots=config.num_processes) as session:
        return verb.run(config, session)


def score(config: ScoreConfig, spark: Session | None = None) -> Summary:
    """Predict masks of scans that have none yet and return the summary, with Dice where there is truth.

    Raises ModelFileError for a model that can't be trusted, InputError for scans that can't be found.
    """
    from slicemill.pipelines import score as verb

    with _submitted_session("score", spark) as session:
        return verb.run(config, session)


def predict(config: PredictConfig) -> Summary:
    """Predict one scan, or some slices, without Spark; write masks, a picture and a table.

    Raises ModelFileError for a model that can't be trusted, InputError for files that are not one scan's
    slices.
    """
    from slicemill.pipelines.deployment import predict as verb

    return verb.run(config)


def promote(config: PromoteConfig) -> Summary:
    """Make a run the model in use: move the pointer that score, predict and report follow.

    Raises ModelFileError for a model that can't be trusted, BusyError while another moves the pointer.
    """
    from slicemill.pipelines.deployment import promote as verb

    return verb.run(config)


def rollback(config: RollbackConfig) -> Summary:
    """Make the run that was promoted before this one the model in use again.

    Raises InputError if there is none, ModelFileError if it holds another model by now.
    """
    from slicemill.pipelines.deployment import promote as verb

    return verb.roll_back(config)


def serve(config: ServeConfig) -> Summary:
    """Predict over HTTP until the process is told to end, and return the summary.

    Raises ModelFileError for a model that can't be trusted, MachineError without the extra `service` or if
    the port is taken.
    """
    from slicemill.pipelines.deployment import serve as verb

    return verb.run(config)


def verify(config: ScoreConfig, spark: Session | None = None) -> Summary:
    """Compare everything in the score folder `config.out` with its manifest and return the summary.

    Raises InputError for a folder without scores.
    """
    from slicemill.pipelines import verify as verb

    with _submitted_session("verify", spark) as session:
        return verb.run(config, session)


def report(config: ReportConfig) -> Summary:
    """Draw one HTML page from a lake, a run and scores and return the summary.

    Raises InputError for a folder that does not exist.
    """
    from slicemill.pipelines import report as verb

    return verb.run(config)


def forget(config: ForgetConfig) -> Summary:
    """Remove patients from a lake, splits, scores and reports and return the summary.

    `unreached` of the summary names what still holds something of them. Raises InputError for a place that
    does not exist, BusyError while another run writes to one of them.
    """
    from slicemill.pipelines import forget as verb

    return verb.run(config)


def crossval(config: CrossvalConfig, spark: Session | None = None) -> Summary:
    """Train and score every fold of a split and return the summary."""
    from slicemill.pipelines import crossval as verb
    from slicemill.spark.session import given_or_new

    with given_or_new(spark, "crossval", slots=config.num_processes * config.parallel) as session:
        return verb.run(config, session)


def sweep(config: SweepConfig, spark: Session | None = None) -> Summary:
    """Search for settings of training and return the summary."""
    from slicemill.pipelines import sweep as verb
    from slicemill.spark.session import given_or_new

    with given_or_new(spark, "sweep", slots=config.num_processes * config.parallel) as session:
        return verb.run(config, session)


def associate(config: AssociateConfig) -> Summary:
    """Test the shape of masks against clinical columns."""
    from slicemill.pipelines import associate as verb

    return verb.run(config)


def compare(config: CompareConfig) -> Summary:
    """Put results side by side, with intervals and paired differences, and return the summary."""
    from slicemill.pipelines import compare as verb

    return verb.run(config)


def committee(config: CommitteeConfig) -> Summary:
    """Make several models score as one and return the summary."""
    from slicemill.pipelines import committee as verb

    return verb.run(config)


def export(config: ExportConfig) -> Summary:
    """Write a model as a file that other programs run and return the summary, with its distance from torch.

    Raises ModelFileError for a model that can't be trusted, MachineError for one that can't be exported.
    """
    from slicemill.pipelines.deployment import export as verb

    return verb.run(config)


def quantise(config: QuantiseConfig) -> Summary:
    """Store a network in int8 beside its weights, if held-back scans lose little Dice; return the summary.

    Raises ConfigError for a committee or a classifier, InputError for a part without labelled scans,
    MachineError where ONNX Runtime is not installed.
    """
    from slicemill.pipelines.deployment import quantise as verb

    return verb.run(config)
