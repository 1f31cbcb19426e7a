"""Every engine gives what torch gives, or is not used."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_builder import write_run
from torch import Tensor, nn

from slicemill.config import ScoreConfig
from slicemill.core.engine import EngineFacts, Parity
from slicemill.core.scans.scan import Scan, Slice
from slicemill.errors import ConfigError, MachineError, ModelFileError
from slicemill.io import storage
from slicemill.io.raw.tiff import count_values
from slicemill.io.run.card import load_card, save_card, weights_uri
from slicemill.io.storage import node_cache
from slicemill.io.storage.uri import canonical, local_path
from slicemill.model.predicting.batches import predict_scans
from slicemill.model.predicting.engines import choice, onnx_engine
from slicemill.model.predicting.engines.onnx_engine import MASK_LIMIT, PROBABILITY_LIMIT, require_parity
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.types import Uri


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node that remembers nothing yet; the folder that it remembers in."""
    home = tmp_path / "node"
    home.mkdir()
    monkeypatch.setattr(node_cache.tempfile, "gettempdir", lambda: str(home))
    return home


@pytest.fixture
def run(tmp_path: Path) -> Uri:
    home = canonical(str(tmp_path / "run"))
    write_run(home, name="tiny")
    return home


def _load(run: Uri, engine: str) -> NetworkPredictor:
    return NetworkPredictor.load(run, "cpu", "fp32", threads=1, engine=engine)


def _kept(node: Path, what: str) -> list[Path]:
    return sorted(node.glob(f"slicemill-*/{what}-*"))


def _scan(slices: int) -> Scan:
    images = np.random.default_rng(slices).integers(0, 256, (slices, 40, 56, 3), dtype=np.uint8)
    return Scan(
        f"s{slices}",
        "p",
        tuple(Slice(at, image, None, count_values(image), "absent", "") for at, image in enumerate(images)),
        (),
    )


def test_onnx_runtime_gives_the_probabilities_of_torch(run: Uri) -> None:
    inputs = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    reference, onnx = _load(run, "torch"), _load(run, "onnx")
    assert (reference.engine.facts.name, onnx.engine.facts.name) == ("torch", "onnxruntime")
    with torch.inference_mode():
        for flips in (False, True):
            for part in (inputs, inputs[:1], inputs[:, :, :32]):
                one, other = (torch.sigmoid(by.logits(part, flips)) for by in (reference, onnx))
                assert one.shape == other.shape
                assert float((one - other).abs().max()) < PROBABILITY_LIMIT
    parity = onnx.engine.facts.parity
    assert parity is not None
    assert parity.largest_difference < PROBABILITY_LIMIT
    assert parity.mask_share <= MASK_LIMIT
    assert reference.engine.facts.parity is None


def test_a_node_exports_a_model_once_and_mends_what_was_damaged(
    run: Uri, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = []
    real = onnx_engine.onnx_bytes

    def counted(network: nn.Module, channels: int, size: int) -> bytes:
        exports.append(size)
        return real(network, channels, size)

    monkeypatch.setattr(onnx_engine, "onnx_bytes", counted)
    first = _load(run, "onnx").engine.facts
    assert _load(run, "onnx").engine.facts == first
    assert exports == [64]
    (kept,) = _kept(node, "onnx")
    kept.write_bytes(kept.read_bytes()[:-100])
    assert _load(run, "onnx").engine.facts == first
    assert exports == [64, 64]


def test_weights_that_changed_are_refused_although_their_export_is_kept(run: Uri) -> None:
    _load(run, "onnx")
    data = bytearray(storage.read_bytes(weights_uri(run)))
    data[-1] ^= 1
    local_path(weights_uri(run)).write_bytes(bytes(data))
    for engine in ("onnx", "auto"):
        with pytest.raises(ModelFileError, match="does not belong to its card"):
            _load(run, engine)


def test_an_export_that_is_another_network_fails_the_self_test(run: Uri, tmp_path: Path) -> None:
    other = canonical(str(tmp_path / "other"))
    write_run(other, seed=1, name="tiny")
    card = load_card(run)
    save_card(run, replace(card, self_test=load_card(other).self_test))
    with pytest.raises(ModelFileError, match="fails its self-test"):
        _load(run, "onnx")


def test_a_card_without_a_self_test_is_compared_with_torch_at_every_load(
    run: Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_card(run, replace(load_card(run), self_test=None))
    _load(run, "onnx")
    monkeypatch.setattr(onnx_engine, "measured_parity", lambda *_: Parity(0.5, 0.0))
    with pytest.raises(MachineError, match="other probabilities"):
        _load(run, "onnx")


@pytest.mark.parametrize(
    ("parity", "passes"),
    [
        (Parity(0.0, 0.0), True),
        (Parity(PROBABILITY_LIMIT, MASK_LIMIT), True),
        (Parity(2 * PROBABILITY_LIMIT, 0.0), False),
        (Parity(0.0, 2 * MASK_LIMIT), False),
        (Parity(float("nan"), 0.0), False),
    ],
)
def test_an_engine_too_far_from_torch_is_refused(parity: Parity, passes: bool) -> None:
    if passes:
        require_parity(parity, "m")
        return
    with pytest.raises(MachineError, match=r"m gives other probabilities.*--engine torch"):
        require_parity(parity, "m")


def test_auto_takes_the_faster_engine_and_the_node_remembers_which(
    run: Uri, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = iter([False])
    monkeypatch.setattr(choice, "_trial", lambda *_: next(verdicts))
    assert [_load(run, "auto").engine.facts.name for _ in range(2)] == ["torch", "torch"]
    (verdict,) = _kept(node, "engine")
    verdict.write_bytes(b"onnx")
    assert _load(run, "auto").engine.facts.name == "onnxruntime"


def test_without_onnx_runtime_scoring_goes_by_torch_with_one_line(
    run: Uri, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnx_engine, "onnx_version", lambda: None)
    with caplog.at_level(logging.INFO, "slicemill"):
        assert _load(run, "auto").engine.facts.name == "torch"
    (line,) = [record.getMessage() for record in caplog.records if "scoring goes by torch" in record.message]
    assert "ONNX Runtime is not installed" in line
    with pytest.raises(MachineError, match=r"slicemill\[onnx\]"):
        _load(run, "onnx")


class _Untraceable(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(inputs)


def test_a_network_that_cannot_be_exported_scores_by_torch(
    run: Uri, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnx_engine.onnx_bytes
    monkeypatch.setattr(onnx_engine, "onnx_bytes", lambda _, *rest: real(_Untraceable(), *rest))
    assert _load(run, "auto").engine.facts.name == "torch"
    assert _kept(node, "onnx") == []
    with pytest.raises(MachineError, match="can't be exported to ONNX"):
        _load(run, "onnx")


def test_masks_of_a_scan_do_not_depend_on_the_scans_before_it(run: Uri) -> None:
    by = _load(run, "onnx")
    target, others = _scan(5), [_scan(3), _scan(4)]

    def prediction(*order: Scan) -> tuple[np.ndarray, np.ndarray]:
        pairs = ((one.scan_id, one) for one in order)
        found = {name: one for name, _, one in predict_scans(pairs, by, 4, 0.5)}[target.scan_id]
        assert found.masks is not None
        return found.masks, found.peaks

    masks, peaks = prediction(target)
    assert 0 < masks.mean() < 1
    for order in ((others[0], target), (*others, target, others[0])):
        for one, other in zip(prediction(*order), (masks, peaks), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("settings", [{"device": "cuda"}, {"precision": "bf16"}])
def test_onnx_runtime_is_refused_for_what_only_torch_does(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="--engine onnx does not go with"):
        ScoreConfig(out="o", model="m", raw=("r",), engine="onnx", **settings)  # type: ignore[arg-type]


def test_facts_read_as_one_line() -> None:
    assert str(EngineFacts("onnxruntime", "1.32.0", "fp32", Parity(0.0, 0.0))) == "onnxruntime 1.32.0 fp32"
