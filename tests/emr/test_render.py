"""The committed files of emr/ are what the builders give."""

from __future__ import annotations

import json

import pytest
from emr_builder import CHOICE, EMR

from slicemill.emr.capacity.prices import read_prices
from slicemill.emr.render import rendered

FILES = rendered(CHOICE, read_prices())


@pytest.mark.parametrize("name", FILES)
def test_a_committed_file_is_what_render_writes(name: str) -> None:
    assert (EMR / name).read_text("utf-8") == FILES[name]


@pytest.mark.parametrize("folder", ["clusters", "configurations", "notebooks", "schedule", "steps"])
def test_nothing_else_lies_among_the_rendered_files(folder: str) -> None:
    there = {str(path.relative_to(EMR)) for path in (EMR / folder).iterdir()}
    assert there == {name for name in FILES if name.startswith(f"{folder}/")}


def test_every_rendered_step_and_cluster_is_json_of_the_documented_form() -> None:
    for name, text in FILES.items():
        if name.startswith("steps/"):
            (step,) = json.loads(text)
            assert step["HadoopJarStep"]["Jar"] == "command-runner.jar"
        if name.startswith("configurations/"):
            assert all({"Classification", "Properties"} <= one.keys() for one in json.loads(text))
