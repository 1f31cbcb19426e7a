"""The reference pages say what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "reference.py"
REFERENCE = runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize("name", REFERENCE["PAGES"])
def test_a_committed_reference_page_is_what_the_code_renders(name):
    committed = (REFERENCE["DOCS"] / name).read_text(encoding="utf-8")
    assert committed == REFERENCE["page"](name), "run `make docs`"


def test_every_option_has_a_type_and_a_meaning():
    lines = REFERENCE["commands"]().splitlines()
    options = [line.split(" | ") for line in lines if line.startswith("| `--")]
    assert len(options) > 60
    for _, kind, _, meaning in options:
        assert kind.strip()
        assert meaning.strip(" |")


def test_the_rendering_follows_the_code():
    tables, errors = REFERENCE["tables"](), REFERENCE["failures"]()
    assert "| `image` | binary | grey value | uint8 image, axes (H, W, C), C order |" in tables
    assert "| `ConfigError` | `SlicemillError` | 2 |" in errors
    assert "| `LAKE/splits/NAME.json` |" in REFERENCE["storage"]()
    assert (
        "slicemill.open_scores(uri: str, model_id: str | None = None) -> ScoreTables" in REFERENCE["python"]()
    )
