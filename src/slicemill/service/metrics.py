"""What the service counts, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SLICES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one service; no label holds anything that a client sent."""

    def __init__(self, model_id: str) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "slicemill_requests", "Requests for a mask, by status code.", ["status"], registry=self._registry
        )
        self.slices = Counter("slicemill_slices", "Slices that were predicted.", registry=self._registry)
        self.seconds = Histogram(
            "slicemill_request_seconds",
            "From a request's head to its answer.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_slices = Histogram(
            "slicemill_batch_slices",
            "Slices that were predicted together.",
            buckets=_SLICES,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "slicemill_in_flight", "Requests that are worked on or wait.", registry=self._registry
        )
        model = Gauge("slicemill_model", "The model that answers.", ["model_id"], registry=self._registry)
        model.labels(model_id).set(1)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return bytes(generate_latest(self._registry))
