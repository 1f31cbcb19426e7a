"""Networks and losses of other packages, and runs that go on from another run."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from slicemill.errors import ConfigError, ModelFileError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import load_card
from slicemill.io.storage.uri import canonical
from slicemill.model.networks import external
from slicemill.model.networks.registry import architecture, check_settings
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.training import rank_run
from slicemill.model.training.initial import initial_network

OWN = "tiny_network:tiny_network"


def _failure(plan) -> dict[str, object]:
    return storage.read_json(Run(canonical(plan.settings.out)).failure(0))


def test_an_own_network_and_loss_train_and_score_where_they_are_allowed(
    make, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make(model=OWN, loss="tiny_network:squared_loss", epochs=1)
    summary = json.loads(rank_run.train(plan.to_json()))
    run = canonical(plan.settings.out)

    assert load_card(run).architecture == OWN
    assert load_card(run).training["loss"] == "tiny_network:squared_loss"
    with pytest.raises(ModelFileError, match=r"can't be built here.*SLICEMILL_NETWORKS"):
        NetworkPredictor.load(run, "cpu", "fp32", threads=1)

    monkeypatch.setenv(external.VARIABLE, f"another:network, {OWN}")
    assert NetworkPredictor.load(run, "cpu", "fp32", threads=1).model_id == summary["model_id"]


def test_a_package_may_declare_its_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "declared_networks", lambda: {"tiny-own": OWN})

    external.require_allowed("tiny-own")
    assert architecture("tiny-own", "segment").builder == tuple(OWN.split(":"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "no_such_package.nets:build"}, "no_such_package.nets:build is not installed.*PYTHONPATH"),
        ({"loss": "no_such_package.losses:mine"}, "loss no_such_package.losses:mine is not installed"),
        ({"model": "os.path:../../x"}, "--model is not a network of this release"),
    ],
)
def test_what_is_not_installed_is_refused_before_training(make, settings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_settings(make(**settings).settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "tiny_network:no_such"}, "has no function no_such"),
        ({"model": OWN, "filters": 8}, "can't be built with these options"),
        ({"model": "tiny_network:whole_slice"}, "can't be trained for --task segment"),
    ],
)
def test_a_network_that_does_not_fit_fails_in_one_line(make, settings, said: str) -> None:
    plan = make(**settings)

    assert rank_run.train(plan.to_json()) == "{}"
    assert said in _failure(plan)["message"]


class TestInitFrom:
    """Going on from the weights of a finished run."""

    @pytest.fixture
    def base(self, make):
        plan = make(epochs=1)
        rank_run.train(plan.to_json())
        return plan

    def test_it_starts_with_the_weights_of_the_run(self, base, make, tmp_path) -> None:
        plan = make(init_from=base.settings.out, out=canonical(str(tmp_path / "fine")), epochs=1)
        initial = initial_network(plan)
        rank_run.train(plan.to_json())

        trained = NetworkPredictor.load(
            canonical(base.settings.out), "cpu", "fp32", threads=1, engine="torch"
        )
        images = torch.randn(1, 3, 32, 32)
        with torch.inference_mode():
            assert torch.allclose(initial.network.eval()(images), trained.logits(images), atol=1e-5)
        card = load_card(canonical(plan.settings.out))
        assert card.initial_weights["sha256"] == trained.card.weights_sha256
        assert set(trained.card.patients["train"]) <= set(card.patients["train"])

    def test_another_network_does_not_fit(self, base, make) -> None:
        with pytest.raises(ConfigError, match="run of another network"):
            initial_network(make(model="monai-unet", init_from=base.settings.out))

    def test_validation_on_patients_that_the_run_was_trained_on_is_refused(self, base, make) -> None:
        plan = make(init_from=base.settings.out)
        plan = dataclasses.replace(plan, patients={"train": [], "val": base.patients["train"][:1]})

        with pytest.raises(ConfigError, match="trained on patients of this run's validation part"):
            initial_network(plan)
