"""The service as a process: listens until it is told to end, and then finishes what it has."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket

import uvicorn

from slicemill.config import ServeConfig
from slicemill.errors import MachineError
from slicemill.io.run.card import Card
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.model.predicting.worker import load_predictor
from slicemill.service.app import Service, Totals
from slicemill.service.batcher import Batcher
from slicemill.service.metrics import Metrics

log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: Longest head of a request, in bytes, and time for open requests at the end, in seconds.
_HEAD_BYTES, _LAST_SECONDS = 16_384, 30


def listen(config: ServeConfig, card: Card, settings: ScoreSettings) -> Totals:
    """Answer requests until SIGINT or SIGTERM; return what was counted.

    Raises MachineError if the port can't be had, ModelFileError for a model that can't be trusted.
    """
    if config.host not in _LOOPBACK:
        log.warning(
            "%s is not loopback: whoever reaches the port can ask, and nothing is encrypted", config.host
        )
    listener = _bound(config)
    predictor = load_predictor(settings)
    metrics = Metrics(card.model_id)
    # A trial of batch sizes would keep the first request waiting.
    batch_size = settings.batch_size or predictor.usual_batch_size
    sized = dataclasses.replace(settings, batch_size=batch_size)
    batcher = Batcher(predictor, sized, batch_size, metrics)
    batcher.start()
    service = Service(config, card.model_id, batcher, metrics)
    server = uvicorn.Server(
        uvicorn.Config(
            service.app(),
            log_level="warning",
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            http="h11",
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=_LAST_SECONDS,
        )
    )
    log.info("listening on http://%s:%d", config.host, listener.getsockname()[1])
    # The signal that ended the service is raised again once it has finished.
    with contextlib.closing(listener), contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    batcher.stop()
    return service.totals


def _bound(config: ServeConfig) -> socket.socket:
    try:
        return socket.create_server(
            (config.host, config.port), family=socket.AF_INET6 if ":" in config.host else socket.AF_INET
        )
    except OSError as error:
        raise MachineError(
            f"port {config.port} of {config.host} can't be listened on",
            expected="a free port",
            found=error.strerror or str(error),
            advice="Give another --port, or 0 for any.",
        ) from error
