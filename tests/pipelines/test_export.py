"""An exported model is the model, and its folder says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from run_builder import write_run

import slicemill
from slicemill.errors import MachineError, ModelFileError
from slicemill.io import storage
from slicemill.io.places import Export
from slicemill.io.run.card import load_card, sha256
from slicemill.io.storage.uri import canonical
from slicemill.model.predicting.engines import onnx_engine
from slicemill.model.predicting.engines.run_network import load_network


def test_the_file_gives_what_the_trained_network_gives(tmp_path: Path) -> None:
    run, out = canonical(str(tmp_path / "run")), canonical(str(tmp_path / "out"))
    card = write_run(run)
    summary = slicemill.export(slicemill.ExportConfig(model=run, out=out))
    assert (summary["status"], summary["model_id"]) == ("done", card.model_id)
    assert 0 <= summary["largest_difference"] < 1e-3

    data, facts = storage.read_bytes(Export(out).model), storage.read_json(Export(out).facts)
    assert facts["sha256"] == sha256(data)
    assert load_card(out) == card
    inputs = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = load_network(run, card).eval()(inputs).numpy()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (logits,) = session.run([facts["output"]["name"]], {facts["input"]["name"]: inputs.numpy()})
    assert np.allclose(logits, expected, atol=1e-3 * np.abs(expected).max())


def test_what_differs_from_torch_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = canonical(str(tmp_path / "run")), tmp_path / "out"
    write_run(run)
    monkeypatch.setattr(onnx_engine, "MASK_LIMIT", -1.0)
    with pytest.raises(MachineError, match="other probabilities"):
        slicemill.export(slicemill.ExportConfig(model=run, out=str(out)))
    assert not out.exists()
    with pytest.raises(ModelFileError):
        slicemill.export(slicemill.ExportConfig(model=str(tmp_path / "nothing"), out=str(out)))
