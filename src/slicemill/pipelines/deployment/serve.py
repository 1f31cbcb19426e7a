"""One model over HTTP, until the process is told to end."""

from __future__ import annotations

from typing import Any

from slicemill.config import ServeConfig
from slicemill.core.splits import refuse_leaky
from slicemill.errors import ConfigError, MachineError
from slicemill.experiments.score_settings import check_model, score_settings
from slicemill.io.run.pointer import open_model
from slicemill.io.storage.uri import display


def run(config: ServeConfig) -> dict[str, Any]:
    """Serve the model and return the summary once the service has ended.

    Raises ModelFileError for a model that can't be trusted, ConfigError for a classifier, MachineError
    without the extra `service` or if the port is taken.
    """
    reference = open_model(config.model)
    refuse_leaky(reference.card.split, "--model")
    if reference.card.task == "classify":
        raise ConfigError("serve gives masks", expected="a model that segments", found="a classifier")
    check_model(reference.run, reference.card)
    try:
        from slicemill.service.server import listen
    except ImportError as error:
        raise MachineError(
            "serve needs packages that are not installed",
            expected="starlette, uvicorn and prometheus-client",
            found=str(error),
            advice="pip install 'slicemill[service]'.",
        ) from error
    totals = listen(config, reference.card, score_settings(config, reference.run, reference.card))
    return {
        "job": "serve",
        "status": "done",
        "model_id": reference.card.model_id,
        "run": display(reference.run),
        "requests": totals.requests,
        "slices": totals.slices,
    }
