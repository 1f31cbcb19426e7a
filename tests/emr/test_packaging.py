"""The Dockerfile, read: pins, users and the entry; and that the environment holds what every job imports."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from emr_builder import EMR

from slicemill.cli import VERBS

ROOT = EMR.parent
DOCKERFILE = (EMR / "packaging" / "Dockerfile").read_text("utf-8")
STAGES = {
    name.rpartition(" AS ")[2] or "archive": body
    for name, body in re.findall(r"^FROM ([^\n]*)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
#: What a cluster brings, what build_env.sh takes in another build, and extras that no job of a cluster needs.
ELSEWHERE = {"pyspark", "py4j", "torch", "torchvision"} | {
    re.split(r"[<>=]", requirement)[0]
    for extra in ("track", "service")
    for requirement in PROJECT["optional-dependencies"][extra]
}


def _imports() -> set[str]:
    """Top-level names of every package that slicemill imports anywhere."""
    names = set()
    for path in (ROOT / "src" / "slicemill").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"slicemill"}


def test_the_environment_of_a_cluster_holds_what_any_verb_imports() -> None:
    pins = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "emr.txt").read_text("utf-8"), re.M)
    owners = importlib.metadata.packages_distributions()
    missing = {}
    for name in _imports():
        packages = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners[name]}
        if not packages & ({*pins} | ELSEWHERE):
            missing[name] = packages
    assert missing == {}


def test_the_image_takes_pyspark_by_the_pins_and_hashes_of_every_other_environment() -> None:
    match = re.search(r"awk '(.*?)' requirements/all.txt", STAGES["unpacked"])
    assert match is not None
    pins = subprocess.run(
        ["awk", match[1], "requirements/all.txt"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (spark,) = (row for row in PROJECT["optional-dependencies"]["spark"] if row.startswith("pyspark"))
    assert re.findall(r"^pyspark==[\d.]+", pins, re.M) == [spark]
    assert pins.count("--hash=sha256:") >= 2
    assert "--require-hashes" in STAGES["unpacked"]


def test_the_image_is_not_root_brings_java_and_its_entry_takes_every_verb(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = STAGES["image"]
    assert "java-17-amazon-corretto-headless" in image
    assert re.findall(r"^USER (.*)$", image, re.M) == ["10001"]
    assert image.index("USER 10001") < image.index("ENTRYPOINT")
    text = re.search(r"printf '(.*?)' >/usr/local/bin/slicemill", image)
    assert text is not None
    _, _, body = text[1].encode().decode("unicode_escape").partition("\n")
    script = tmp_path / "slicemill"
    script.write_text(body)
    done = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert not [verb for verb in VERBS if verb not in done.stdout]


def test_archive_and_image_come_from_one_build_with_the_interpreter_of_the_nodes() -> None:
    assert list(STAGES) == ["build", "unpacked", "image", "scratch"]
    assert "COPY --from=build /out/ /" in STAGES["scratch"]
    assert "FROM build AS unpacked" in DOCKERFILE
    script = (EMR / "packaging" / "build_env.sh").read_text("utf-8")
    assert "${PYTHON:-/usr/bin/python3.11}" in script
    for stage in ("build", "image"):
        assert re.search(r"dnf install [^&]*\bpython3\.11\b", STAGES[stage], re.S)
