"""The CloudFormation template of the nightly schedule: written by hand, its state machine put in."""

from __future__ import annotations

import json
from importlib.resources import files

from slicemill.emr.capacity.shapes import SHAPES, Shape
from slicemill.emr.requests.nightly import state_machine

_TEMPLATE = "nightly.template.yaml"
_MARK = "@definition@"
_INDENT = " " * 8


def nightly_template(release_label: str, nodes: Shape = SHAPES["cpu"]) -> str:
    """The template's text; JSON is YAML, so the definition stands in it as it is."""
    text = (files(__package__) / _TEMPLATE).read_text("utf-8")
    definition = json.dumps(state_machine(release_label, nodes), indent=2).replace("\n", f"\n{_INDENT}")
    return text.replace(_MARK, definition)
