"""A tiny synthetic lake and the plan to train on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from lake_builder import TinyScan, tiny_scan, write_lake

from slicemill.config import TrainConfig
from slicemill.core.training.plan import TrainPlan
from slicemill.experiments.training import make_plan, scans_by_part
from slicemill.io.storage.uri import canonical
from slicemill.model.networks.registry import ARCHITECTURES, Architecture

MakePlan = Callable[..., TrainPlan]


@pytest.fixture(scope="session")
def tiny_scans() -> list[TinyScan]:
    """Four scans of two sizes for training, one for validation, one for testing."""
    return [
        tiny_scan("a", 7),
        tiny_scan("b", 5, unlabelled=[0, 3]),
        tiny_scan("c", 6, size=(32, 48)),
        tiny_scan("d", 3),
        tiny_scan("e", 4),
        tiny_scan("f", 4),
    ]


@pytest.fixture(scope="session")
def tiny_lake(tiny_scans: Sequence[TinyScan], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Canonical URI of a lake with the splits `demo` and `no-val`; to be read only."""
    home = canonical(str(tmp_path_factory.mktemp("tiny") / "lake"))
    parts = {f"P{name}": "train" for name in "abcd"}
    write_lake(
        home, tiny_scans, {"demo": {**parts, "Pe": "val", "Pf": "test"}, "no-val": {**parts, "Pe": "test"}}
    )
    return home


@pytest.fixture(scope="session", autouse=True)
def tiny_network() -> Iterator[None]:
    """The registry's entry `tiny`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", Architecture(("tiny_network", "tiny_network"), "segment"))
        yield


@pytest.fixture
def make(tiny_lake: str, tmp_path: Path) -> MakePlan:
    """A plan on the tiny lake; arguments are TrainConfig's."""

    def plan(**settings: Any) -> TrainPlan:
        config = TrainConfig(
            **{
                "lake": tiny_lake,
                "split": "demo",
                "model": "tiny",
                "out": canonical(str(tmp_path / "run")),
                "epochs": 2,
                "image_size": 32,
                "first_size": 32,
                "batch_size": 4,
                "device": "cpu",
                "figures": False,
                **settings,
            }
        )
        return make_plan(config, scans_by_part(config), threads=1)

    return plan
