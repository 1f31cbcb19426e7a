"""Sections to one HTML file that needs nothing beside itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from slicemill import __version__
from slicemill.pages.figures import style
from slicemill.pages.sections.blocks import Section, Viewer


@dataclass(frozen=True)
class Page:
    """The head of a page: the inputs by name, when it was made, whether its scans are synthetic."""

    title: str
    inputs: tuple[tuple[str, str], ...]
    made: datetime
    synthetic: bool


def render(page: Page, sections: Sequence[Section]) -> bytes:
    """The page as UTF-8.

    Every value is escaped. A policy inside the page forbids the network, and any script but the page's own.
    """
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            sections=sections,
            version=__version__,
            css=Markup(_asset("page.css")),
            script=Markup(script),
            script_hash=digest,
            truth=style.TRUTH,
            prediction=style.PREDICTION,
        )
    )
    return text.encode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("slicemill.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["frame_values"] = _frame_values
    return environment


@cache
def _asset(name: str) -> str:
    return files("slicemill.pages").joinpath("templates", name).read_text(encoding="utf-8")


def _frame_values(viewer: Viewer) -> list[dict[str, object]]:
    return [
        {
            "slice": frame.slice_index,
            "truth": frame.truth,
            "predicted": frame.predicted,
            "words": frame.detail,
        }
        for frame in viewer.frames
    ]
