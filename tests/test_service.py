"""The HTTP service: the masks of scoring, refusals with a sentence, limits, and bytes of no honest client."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import numpy as np
import pytest
import uvicorn
from PIL import Image
from raw_builder import image
from run_builder import write_run
from tiff_builder import build

import slicemill
from slicemill.config import ServeConfig
from slicemill.errors import MachineError
from slicemill.experiments.score_settings import score_settings
from slicemill.io.run.pointer import open_model
from slicemill.io.storage.uri import canonical
from slicemill.model.predicting.worker import load_predictor
from slicemill.pipelines.deployment import serve
from slicemill.service.app import Service
from slicemill.service.batcher import Batcher
from slicemill.service.metrics import Metrics

LIMIT = 200_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("run")
    write_run(canonical(str(home)), size=32)
    return str(home)


@pytest.fixture(scope="module")
def service(model: str) -> Iterator[Service]:
    config = ServeConfig(
        model,
        max_bytes=LIMIT,
        max_slices=8,
        max_pixels=4096,
        queue=8,
        body_seconds=1.0,
        device="cpu",
        batch_size=8,
    )
    named = open_model(model)
    settings = score_settings(config, named.run, named.card)
    metrics = Metrics(named.card.model_id)
    batcher = Batcher(load_predictor(settings), settings, 8, metrics)
    batcher.start()
    yield Service(config, named.card.model_id, batcher, metrics)
    batcher.stop()


@pytest.fixture(scope="module")
def port(service: Service) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(service.app(), log_level="error", http="h11", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def ask(port: int, body: bytes | None, path: str = "/predict") -> tuple[int, bytes, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET" if body is None else "POST", path, body)
    response = connection.getresponse()
    return response.status, response.read(), dict(response.getheaders())


def saved(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def test_every_format_gives_the_mask_that_python_gives(model, port):
    plane = image("S", 1)
    expected = slicemill.Predictor.load(model, "cpu").predict(plane[None]).masks[0]
    status, mask, headers = ask(port, build(plane))
    assert (status, headers["content-type"]) == (200, "image/tiff")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(mask))), expected * 255)
    assert int(headers["x-tumour-pixels"]) == expected.sum()
    sink = io.BytesIO()
    Image.fromarray(plane).save(sink, "PNG")
    _, mask, _ = ask(port, sink.getvalue())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(mask))), expected * 255)
    _, mask, _ = ask(port, saved(plane))
    np.testing.assert_array_equal(np.load(io.BytesIO(mask)), expected)


def test_a_stack_is_normalised_as_one_scan(model, port):
    stack = np.stack([image("S", number) for number in range(5)])
    _, masks, _ = ask(port, saved(stack))
    expected = slicemill.Predictor.load(model, "cpu").predict(stack).masks
    np.testing.assert_array_equal(np.load(io.BytesIO(masks)), expected)
    assert ask(port, saved(stack), "/predict?format=png")[0] == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 415),
        (b"PK\x03\x04 a zip", 415),
        (b"II*\0" + bytes(100), 422),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), 422),
        (b"\x93NUMPY" + bytes(100), 422),
        (build(image("S", 1))[:200], 422),
        (saved(np.zeros((9, 16, 16, 3), np.uint8)), 413),
        (saved(np.zeros((128, 64, 3), np.uint8)), 422),
        (bytes(LIMIT + 1), 413),
    ],
)
def test_what_is_no_slice_is_refused_and_the_next_request_answered(port, body, status):
    answer, text, _ = ask(port, body)
    assert answer == status
    assert b'"error"' in text
    assert b"Traceback" not in text
    assert ask(port, None, "/health")[0] == 200


def test_a_body_that_never_comes_is_given_up(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nII")
        assert b" 408 " in client.recv(4096)


def test_random_bytes_never_break_it(port):
    random = np.random.default_rng(5)
    heads = [b"", b"II*\0", b"MM\0*", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY\x01\0v\0"]
    for number in range(100):
        body = heads[number % len(heads)] + random.bytes(int(random.integers(0, 3000)))
        assert ask(port, body)[0] in (200, 415, 422)
    assert ask(port, None, "/health")[0] == 200


def test_requests_at_once_have_their_own_masks(model, port):
    planes = [image("S", number) for number in range(6)]
    predictor = slicemill.Predictor.load(model, "cpu")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda plane: ask(port, saved(plane)), planes))
    for plane, (status, mask, _) in zip(planes, answers, strict=True):
        assert status == 200
        np.testing.assert_array_equal(np.load(io.BytesIO(mask)), predictor.predict(plane[None]).masks[0])


def test_more_than_the_queue_holds_are_told_to_come_again(service, port, monkeypatch):
    monkeypatch.setattr(service, "in_flight", service.config.queue)
    status, _, headers = ask(port, build(image("S", 1)))
    assert (status, headers["retry-after"]) == (503, "1")


def test_one_scan_that_fails_does_not_fail_another(service, monkeypatch):
    from slicemill.io.raw.loose import LooseFile, loose_scan
    from slicemill.service import batcher

    scans = [
        loose_scan([LooseFile(canonical("/s.npy"), saved(image("S", number)))], name, 4096)
        for number, name in enumerate(("good", "bad", "fine"))
    ]
    real = batcher.predictions

    def failing(jobs, predictor, settings):
        if any(scan.scan_id == "bad" for _, scan in jobs):
            raise RuntimeError("broken")
        return real(jobs, predictor, settings)

    monkeypatch.setattr(batcher, "predictions", failing)
    futures = [service.batcher.submit(scan) for scan in scans]
    assert [future.exception(timeout=60) is None for future in futures] == [True, False, True]


def test_metrics_count_what_was_answered(port):
    ask(port, build(image("S", 1)))
    text = ask(port, None, "/metrics")[1].decode()
    assert 'slicemill_requests_total{status="200"}' in text
    assert "slicemill_slices_total" in text


def test_a_port_that_is_taken_is_one_sentence(model, port):
    with pytest.raises(MachineError, match="can't be listened on"):
        serve.run(ServeConfig(model, port=port, device="cpu"))
