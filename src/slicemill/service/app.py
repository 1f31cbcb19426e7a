"""The service's routes: POST /predict, GET /health, GET /metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slicemill.config import ServeConfig
from slicemill.service.batcher import Batcher
from slicemill.service.metrics import Metrics
from slicemill.service.upload import MEDIA_TYPES, RefusalError, answer_format, decode_body, encode_masks

log = logging.getLogger(__name__)


@dataclass
class Totals:
    """Requests for a mask that were answered, and slices that were predicted."""

    requests: int = 0
    slices: int = 0


@dataclass
class Service:
    """One model over HTTP. A request holds a place from its head to its answer, so memory has a bound."""

    config: ServeConfig
    model_id: str
    batcher: Batcher
    metrics: Metrics
    in_flight: int = 0
    totals: Totals = field(default_factory=Totals)

    def app(self) -> Starlette:
        """The routes as an ASGI application."""
        return Starlette(
            routes=[
                Route("/predict", self.predict, methods=["POST"]),
                Route("/health", self.health),
                Route("/metrics", self.show_metrics),
            ]
        )

    async def health(self, request: Request) -> Response:
        """200 while the service predicts, 503 if its thread has ended."""
        alive = self.batcher.alive
        content = {"status": "ok" if alive else "down", "model_id": self.model_id}
        return JSONResponse(content, 200 if alive else 503)

    async def show_metrics(self, request: Request) -> Response:
        """Counters in Prometheus' text format."""
        self.metrics.in_flight.set(self.in_flight)
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def predict(self, request: Request) -> Response:
        """The mask of the slice, or of the slices, in the body."""
        start = time.monotonic()
        try:
            response = await self._in_place(request)
        except RefusalError as refusal:
            response = _refused(refusal)
        except ClientDisconnect:
            response = _refused(RefusalError(400, "the body broke off", "a whole body", "a part"))
        except Exception as error:
            # A fault of this program, not of the request: counted, and named where its owner looks.
            log.exception("a request failed")
            response = _refused(RefusalError(500, "the service failed", "a mask", type(error).__name__))
        self.totals.requests += 1
        self.metrics.requests.labels(str(response.status_code)).inc()
        self.metrics.seconds.observe(time.monotonic() - start)
        return response

    async def _in_place(self, request: Request) -> Response:
        if self.in_flight >= self.config.queue:
            raise RefusalError(503, "too many requests at once", f"at most {self.config.queue}", "more")
        self.in_flight += 1
        try:
            return await self._answer(request)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: Request) -> Response:
        try:
            body = await asyncio.wait_for(self._body(request), self.config.body_seconds)
        except TimeoutError as error:
            limit = f"a body within {self.config.body_seconds:g} s"
            raise RefusalError(408, "the body did not arrive", limit, "a slow one") from error
        upload = await run_in_threadpool(decode_body, body, self.config.max_pixels, self.config.max_slices)
        kind = answer_format(request.query_params.get("format"), upload)
        output = await asyncio.wrap_future(self.batcher.submit(upload.scan))
        if output.masks is None:
            raise RefusalError(500, "the model gives no masks", "a model that segments", "a classifier")
        self.totals.slices += len(output.slices)
        self.metrics.slices.inc(len(output.slices))
        data = await run_in_threadpool(encode_masks, output.masks, kind)
        headers = {
            "x-slicemill-model": self.model_id,
            "x-tumour-pixels": str(output.score.predicted_volume),
            "x-max-probability": str(max(row.max_probability for row in output.slices)),
        }
        return Response(data, media_type=MEDIA_TYPES[kind], headers=headers)

    async def _body(self, request: Request) -> bytes:
        limit = self.config.max_bytes
        claimed = request.headers.get("content-length", "")
        if claimed.isascii() and claimed.isdigit() and int(claimed) > limit:
            raise RefusalError(413, "the body is too large", f"at most {limit} bytes", f"{claimed} bytes")
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise RefusalError(413, "the body is too large", f"at most {limit} bytes", "more")
            parts.append(part)
        return b"".join(parts)


def _refused(refusal: RefusalError) -> Response:
    content = {"error": refusal.error, "expected": refusal.expected, "found": refusal.found}
    headers = {"retry-after": "1"} if refusal.status == 503 else {}
    # What is left of a body that was not read must not be taken for the next request.
    return JSONResponse(content, refusal.status, {**headers, "connection": "close"})
