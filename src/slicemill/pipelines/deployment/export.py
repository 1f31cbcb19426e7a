"""A trained model as a file for other programs, its card and its distance from torch beside it."""

from __future__ import annotations

from typing import Any

from slicemill.config import ExportConfig
from slicemill.core.splits import refuse_leaky
from slicemill.io import storage
from slicemill.io.places import Export
from slicemill.io.run.card import load_card, save_card, sha256
from slicemill.io.run.pointer import open_model
from slicemill.io.storage.uri import canonical, display
from slicemill.schemas import SCHEMA_VERSION


def run(config: ExportConfig) -> dict[str, Any]:
    """Export, compare with torch, write, and return the summary; no Spark session is needed.

    Raises ModelFileError for a model that can't be trusted, MachineError for one that can't be exported or
    differs from torch, or where ONNX Runtime is not installed.
    """
    # Imports of torch, which a refused argument does without.
    from slicemill.model.predicting.engines.onnx_engine import exported
    from slicemill.model.predicting.engines.onnx_file import INPUT, OPSET, OUTPUT
    from slicemill.model.predicting.engines.run_network import RunNetwork

    model, place = open_model(config.model).run, Export(canonical(config.out))
    card = load_card(model)
    refuse_leaky(card.split, "--model")
    data, facts = exported(RunNetwork(model, card))
    numbers = {
        "model_id": card.model_id,
        "largest_difference": facts.parity and facts.parity.largest_difference,
        "mask_share": facts.parity and facts.parity.mask_share,
        "compared_with": str(facts),
    }
    storage.write_bytes(place.model, data)
    save_card(place.home, card)
    # Last: a folder without it is not finished.
    storage.write_json(
        place.facts,
        {
            "schema_version": SCHEMA_VERSION,
            "format": config.to,
            "opset": OPSET,
            "sha256": sha256(data),
            "input": {"name": INPUT, "axes": ["n", "channel", "height", "width"], "dtype": "float32"},
            "output": {"name": OUTPUT, "dtype": "float32", "meaning": "logits, a channel each member"},
            **numbers,
        },
    )
    return {"job": "export", "status": "done", **numbers, "bytes": len(data), "file": display(place.model)}
