"""A score folder as a whole: which model wrote to it first, and the suffix of later models' files."""

from __future__ import annotations

from slicemill.core.splits import refuse_leaky
from slicemill.io import storage
from slicemill.io.places import Scores
from slicemill.io.schema_version import require_schema_version
from slicemill.io.storage.uri import display
from slicemill.schemas import SCHEMA_VERSION
from slicemill.types import Uri


def claim(home: Uri, model_id: str) -> str:
    """Open a score folder for a model, the first one by writing the folder's card; return its suffix.

    Raises LakeVersionError for a folder of another schema version.
    """
    uri = Scores(home).card
    if not storage.exists(uri):
        storage.write_json(uri, {"schema_version": SCHEMA_VERSION, "model_id": model_id})
    return model_suffix(home, model_id)


def model_suffix(home: Uri, model_id: str) -> str:
    """Nothing for the first model that ever scored into this folder, -<model_id> for every other."""
    card = storage.read_json(Scores(home).card)
    require_schema_version(card, f"the score folder {display(home)}", "Score into a new folder.")
    return "" if card.get("model_id") == model_id else f"-{model_id}"


def refuse_leaky_scores(home: Uri) -> None:
    """Raise ConfigError for scores by a model of a split that leaks on purpose."""
    uri = Scores(home).summary("")
    if storage.exists(uri):
        refuse_leaky(storage.read_json(uri).get("model", {}).get("split", ""), display(home))
