"""The documentation holds: its commands parse, its links lead somewhere, and its headings exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from slicemill import runner
from slicemill.cli import VERBS

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT, ROOT / "emr", ROOT / "docs", ROOT / "docs" / "reference")
PAGES = [page for folder in FOLDERS for page in sorted(folder.glob("*.md"))]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands() -> list[tuple[str, str]]:
    lines = [
        (name(page), line)
        for page in PAGES
        for block in FENCE.findall(page.read_text(encoding="utf-8"))
        for text in block.replace("\\\n", " ").splitlines()
        for line in text.split(" && ")
    ]
    return [
        (page, line) for page, line in lines if line.startswith("slicemill ") and "slicemill emr " not in line
    ]


def links(page: Path) -> list[tuple[str, str]]:
    """Path and anchor of every link that stays here."""
    targets = LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    return [
        (path, anchor)
        for path, _, anchor in (target.partition("#") for target in targets)
        if "://" not in path
    ]


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_of_the_documentation_is_one(page, line):
    _, verb, *arguments = shlex.split(line, comments=True)
    if "--config" in arguments:
        at = arguments.index("--config")
        _, file = arguments[at], arguments.pop(at + 1)
        arguments.pop(at)
        assert (ROOT / file).exists() or not file.startswith("configs/")
    entry = VERBS[verb]
    arguments = [entry.aliases.get(argument, argument) for argument in arguments]
    settings = runner._parse(verb, entry.config, arguments, from_file=False, positional=entry.positional)
    assert isinstance(settings, entry.config)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_link_leads_to_a_page_and_a_heading(page):
    for path, anchor in links(page):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}
            assert anchor in anchors, f"{path}#{anchor}"


def test_the_site_builds_and_every_page_is_in_its_navigation(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    build = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stderr
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if (ROOT / "docs") in page.parents]
    assert [navigation.count(f": {page}\n") for page in pages] == [1] * len(pages)
