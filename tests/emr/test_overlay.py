"""A user's own fields over a cluster's request: merged, checked, and refused where others rely on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from emr_builder import ENVIRONMENT, SITE_FILE, cluster

from slicemill.cli import run_verb
from slicemill.emr.requests.overlay import apply_overlay, read_overlay
from slicemill.errors import ConfigError

REQUEST = cluster("cpu", "ingest").request()


def over(**fields: Any) -> dict[str, Any]:
    return apply_overlay(REQUEST, fields, ("ingest",))


def test_a_field_that_slicemill_has_no_option_for_is_added_and_the_rest_stays() -> None:
    outcome = over(CustomAmiId="ami-1", Instances={"Ec2KeyName": "mine"})
    assert outcome == REQUEST | {
        "CustomAmiId": "ami-1",
        "Instances": REQUEST["Instances"] | {"Ec2KeyName": "mine"},
    }


def test_named_lists_are_merged_by_their_names() -> None:
    spark = {"Classification": "spark", "Properties": {"enableSparkRapids": "true"}}
    defaults = {"Classification": "spark-defaults", "Properties": {"spark.ui.enabled": "false"}}
    outcome = over(Configurations=[spark, defaults], Tags=[{"Key": "team", "Value": "a"}])
    rows = {row["Classification"]: row for row in outcome["Configurations"]}
    assert rows["spark"] == spark
    assert rows["spark-defaults"]["Properties"]["spark.ui.enabled"] == "false"
    assert rows["spark-defaults"]["Properties"]["spark.speculation"] == "false"
    assert outcome["Tags"] == [*REQUEST["Tags"], {"Key": "team", "Value": "a"}]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"Tags": [{"Key": "project", "Value": "another"}]}, "project"),
        (
            {"BootstrapActions": [{"Name": "environment", "ScriptBootstrapAction": {"Path": "s3://b/k"}}]},
            "environment",
        ),
        ({"JobFlowRole": "admin"}, "JobFlowRole"),
        ({"SecurityConfiguration": None}, "SecurityConfiguration"),
        ({"LogUri": "s3://elsewhere/"}, "LogUri"),
        ({"Steps": []}, "Steps"),
        ({"Instances": {"InstanceGroups": []}}, "InstanceGroups"),
        ({"ReleaseLabel": "emr-6.0.0"}, "ReleaseLabel"),
    ],
)
def test_what_others_rely_on_can_not_be_overlaid(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        over(**fields)


def test_a_setting_that_ranks_hang_under_is_refused_for_training_alone() -> None:
    on = [{"Classification": "spark-defaults", "Properties": {"spark.dynamicAllocation.enabled": "true"}}]
    assert over(Configurations=on)
    with pytest.raises(ConfigError, match="dynamicAllocation"):
        apply_overlay(REQUEST, {"Configurations": on}, ("train",))


@pytest.mark.parametrize("text", ["[1]", "{", "only text"])
def test_a_file_without_fields_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "overlay.yaml").write_text(text)
    with pytest.raises(ConfigError, match="--overlay"):
        read_overlay(str(tmp_path / "overlay.yaml"))


def test_the_dry_run_shows_the_overlay_and_a_field_that_emr_does_not_know_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "overlay.json"
    arguments = ["submit", "--site", SITE_FILE, "--environment", ENVIRONMENT, "--job", "ingest", "--dry-run"]
    file.write_text(json.dumps({"OSReleaseLabel": "2023.6"}))
    assert run_verb("emr", [*arguments, "--overlay", str(file)]) == 0
    assert "2023.6" in capsys.readouterr().out
    file.write_text(json.dumps({"Colour": "red"}))
    assert run_verb("emr", [*arguments, "--overlay", str(file)]) == 2
    assert "Colour" in capsys.readouterr().out
