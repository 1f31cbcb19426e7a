"""An Optuna study that survives its workers: trials are claimed under locks, and a dead worker's go on.

The study's lock is held for the moment of choosing a trial, a trial's own as long as a worker trains it. A
trial that is running by the journal, and whose lock is free, was left behind by a worker that died: the next
one takes it up, with its settings and its last checkpoint.
"""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from slicemill.core.training.pruning import STARTUP
from slicemill.core.training.trials import TrialRow
from slicemill.errors import BusyError
from slicemill.experiments.search_space import Categorical, Dimension, grid
from slicemill.io.storage.journal import StoredJournal
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import join
from slicemill.model.networks.registry import takes
from slicemill.types import Uri

#: Seconds between looks at a study's lock that another worker holds.
_LOOK = 0.2
#: Attribute that holds a trial's settings once all are drawn.
_SETTINGS = "settings"


@dataclass(frozen=True)
class Claim:
    """A trial that is this worker's alone: its number, its settings, and whether another began it."""

    number: int
    settings: Mapping[str, Any]
    taken_over: bool


class Study:
    """The study below a canonical URI; many threads and processes may work on it at once.

    `base`: settings that the space leaves alone. `seed`: trial N of a study draws from seed and N alone, and
    from the trials that are finished when it begins.
    """

    def __init__(
        self, home: Uri, space: Sequence[Dimension], base: Mapping[str, Any], sampler: str, seed: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._home, self._space, self._base = home, space, base
        self._kind, self._seed = sampler, seed
        with self._alone():
            self._storage = JournalStorage(StoredJournal(join(home, "journal")))
            self._study = optuna.create_study(
                storage=self._storage, study_name="sweep", direction="maximize", load_if_exists=True
            )

    def trial_home(self, number: int) -> Uri:
        """Folder of a trial."""
        return join(self._home, "trials", f"trial-{number:04d}")

    @contextmanager
    def claimed(self, limit: int | None) -> Iterator[Claim | None]:
        """A trial to work on, locked while the context lasts; None if the study has its `limit` of trials."""
        with ExitStack() as locks:
            with self._alone():
                claim = self._left_behind(locks) or self._new(locks, limit)
            yield claim

    @contextmanager
    def _alone(self) -> Iterator[None]:
        while True:
            with ExitStack() as locks:
                try:
                    locks.enter_context(sole_writer(self._home, f"sweep-{uuid.uuid4().hex[:12]}"))
                except BusyError:
                    time.sleep(_LOOK)
                    continue
                yield
                return

    def _left_behind(self, locks: ExitStack) -> Claim | None:
        for number in [trial.number for trial in self.trials((TrialState.RUNNING,))]:
            with ExitStack() as lock:
                try:
                    lock.enter_context(self._lock(number))
                except BusyError:
                    continue
                trial = self.trials()[number]
                if trial.state.is_finished():
                    # Its worker entered it and let go since we looked.
                    continue
                if _SETTINGS in trial.user_attrs:
                    locks.enter_context(lock.pop_all())
                    return Claim(number, trial.user_attrs[_SETTINGS], taken_over=True)
                # Its worker died while it drew the settings: nothing is lost but a number.
                self._study.tell(number, state=TrialState.FAIL)
        return None

    def _new(self, locks: ExitStack, limit: int | None) -> Claim | None:
        # One may wait, enqueued by a worker that died before it took it.
        waiting = self.trials((TrialState.WAITING,))
        number = waiting[0].number if waiting else len(self.trials())
        points = grid(self._space) if self._kind == "grid" else None
        if number >= min(limit or np.inf, np.inf if points is None else len(points)):
            return None
        if points is not None and not waiting:
            self._study.enqueue_trial(points[number])
        self._study.sampler = self._sampler(number)
        trial = self._study.ask()
        settings = dict(self._base)
        for dimension in self._space:
            if takes(settings["model"], settings["task"], dimension.name):
                settings[dimension.name] = _drawn(trial, dimension)
        trial_settings = {name: settings[name] for name in trial.params}
        trial.set_user_attr(_SETTINGS, trial_settings)
        locks.enter_context(self._lock(trial.number))
        return Claim(trial.number, trial_settings, taken_over=False)

    def _sampler(self, number: int) -> BaseSampler:
        seed = int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])
        return TPESampler(seed=seed, multivariate=False) if self._kind == "tpe" else RandomSampler(seed=seed)

    def _lock(self, number: int) -> Any:
        return sole_writer(self.trial_home(number), f"trial-{number:04d}")

    def finish(self, number: int, scores: Sequence[float], value: float, pruned: bool) -> None:
        """Enter a trial's scores by epoch, and what its run is worth as its value."""
        trial_id = self._trial_id(number)
        for epoch, score in enumerate(scores, start=1):
            self._storage.set_trial_intermediate_value(trial_id, epoch, score)
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        self._study.tell(number, value, state=state)

    def fail(self, number: int, reason: str) -> None:
        """Enter that a trial failed, and why."""
        self._storage.set_trial_user_attr(self._trial_id(number), "reason", reason)
        self._study.tell(number, state=TrialState.FAIL)

    def _trial_id(self, number: int) -> int:
        return self.trials()[number]._trial_id

    def trials(self, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        """Trials in the order of their numbers."""
        return self._study.get_trials(deepcopy=False, states=states)

    def finished_scores(self) -> list[list[float]]:
        """Scores by epoch of each trial that made all its epochs."""
        return [
            [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]
            for trial in self.trials((TrialState.COMPLETE,))
        ]

    def failed_last(self, count: int) -> bool:
        """Whether the last so many of the ended trials failed."""
        states = [trial.state for trial in self.trials() if trial.state.is_finished()]
        return len(states) >= count and set(states[-count:]) == {TrialState.FAIL}

    def row(self, trial: FrozenTrial) -> TrialRow:
        """A trial as it is published."""
        scores = trial.intermediate_values
        return TrialRow(
            number=trial.number,
            state="failed" if trial.state == TrialState.FAIL else trial.state.name.lower(),
            score=trial.value,
            scores=tuple(scores[epoch] for epoch in sorted(scores)),
            settings=trial.user_attrs.get(_SETTINGS, {}),
            seconds=round(trial.duration.total_seconds(), 1) if trial.duration else 0.0,
            reason=trial.user_attrs.get("reason"),
        )

    def importance(self) -> dict[str, float]:
        """Share of each setting in what makes good trials good; empty with few finished trials.

        Source: S. Watanabe et al., PED-ANOVA, IJCAI (2023).
        """
        if len(self.trials((TrialState.COMPLETE,))) < STARTUP:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = get_param_importances(self._study, evaluator=PedAnovaImportanceEvaluator())
        return {name: float(share) for name, share in shares.items()}


def _drawn(trial: optuna.Trial, dimension: Dimension) -> Any:
    if isinstance(dimension, Categorical):
        return trial.suggest_categorical(dimension.name, dimension.values)
    if dimension.whole:
        step = int(dimension.step or 1)
        return trial.suggest_int(
            dimension.name, int(dimension.low), int(dimension.high), step=step, log=dimension.log
        )
    return trial.suggest_float(
        dimension.name, dimension.low, dimension.high, step=dimension.step, log=dimension.log
    )
