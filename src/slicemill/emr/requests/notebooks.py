"""StartNotebookExecution: a notebook run to its end on a notebook cluster, without people."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from slicemill.emr.requests.cluster import tags
from slicemill.emr.site import Site
from slicemill.errors import ConfigError

#: The files of `notebooks/`, as they lie in a Workspace.
NotebookName: TypeAlias = Literal[
    "01-explore-lake", "02-train-and-watch", "03-results-and-worst-cases", "04-score-new-scans"
]


@dataclass(frozen=True)
class NotebookRun:
    """One run of a notebook of a Workspace on a running cluster of the notebook shape."""

    site: Site
    notebook: NotebookName
    editor: str
    """Id of the Workspace that holds the notebook."""
    cluster: str
    service_role: str
    """Name or ARN of the studio's role."""
    run: str
    """Name of the training run that it shows or scores with."""
    split: str

    def __post_init__(self) -> None:
        for flag, form, value in (
            ("--editor", r"e-[0-9A-Z]+", self.editor),
            ("--cluster", r"j-[0-9A-Z]+", self.cluster),
        ):
            if not re.fullmatch(form, value):
                raise ConfigError(f"{flag} is not an EMR id", expected=f"the form {form}", found=repr(value))

    def parameters(self) -> dict[str, Any]:
        """What the notebook's cell of parameters is overridden with.

        The notebooks' role writes below `notebooks/` only, so nothing is trained, and scores go there.
        """
        lake, run = self.site.data("lake"), self.site.data("runs", self.run)
        if self.notebook == "01-explore-lake":
            return {"LAKE": lake, "SPLIT": self.split}
        if self.notebook == "02-train-and-watch":
            return {"LAKE": lake, "SPLIT": self.split, "RUN": run, "TRAIN": False}
        if self.notebook == "03-results-and-worst-cases":
            return {"LAKE": lake, "RUN": run, "SCORES": self.site.data("scores", self.run)}
        out = self.site.data("notebooks", "scores", self.run)
        return {"MODEL": run, "RAW": self.site.data("raw"), "OUT": out}

    def request(self) -> dict[str, Any]:
        """Keyword arguments of boto3's `start_notebook_execution`."""
        return {
            "NotebookExecutionName": f"slicemill {self.notebook}",
            "EditorId": self.editor,
            "RelativePath": f"{self.notebook}.ipynb",
            "NotebookParams": json.dumps(self.parameters()),
            "ExecutionEngine": {"Id": self.cluster, "Type": "EMR"},
            "ServiceRole": self.service_role,
            "Tags": tags(),
        }
