"""The HTTP service under load and under hostile bytes, on loopback.

    python benchmarks/service.py --model RUN [--clients 4] [--requests 48]

Starts `slicemill serve`, sends slices of noise from several clients at once, then bodies that no honest
client sends. Prints one JSON object: requests a second, latencies, CPU seconds a request, the status code of
each kind of hostile body (0: the connection was closed before the body was read), and whether the service was
healthy at the end. The same slices through `Predictor.predict` here, one at a time, are the comparison.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import slicemill
from slicemill.io.raw.tiff_write import encode_image

SIDE = 256


def hostile_bodies() -> dict[str, bytes]:
    """Bodies by what is wrong with them."""
    noise = np.random.default_rng(1).bytes(50_000)
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2000, 60000, 60000, 3)}".ljust(117) + "\n"
    crafted = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    tiff = encode_image(np.zeros((SIDE, SIDE, 3), np.uint8))
    return {
        "empty": b"",
        "noise": noise,
        "tiff_of_noise": b"II*\0" + noise,
        "tiff_cut_off": tiff[: len(tiff) // 2],
        "png_of_noise": b"\x89PNG\r\n\x1a\n" + noise,
        "npy_that_claims_terabytes": crafted,
        "npy_of_pickled_objects": pickled.getvalue(),
        "zip": b"PK\x03\x04" + noise,
        "too_large": bytes((1 << 26) + 1),
    }


def ask(port: int, body: bytes, path: str = "/predict?format=npy") -> tuple[int, bytes, float]:
    """Status, answer and seconds of one request."""
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST" if body or "predict" in path else "GET", path, body)
        response = connection.getresponse()
        return response.status, response.read(), time.monotonic() - start
    except (ConnectionError, http.client.HTTPException):
        # The service closes while a body that it refused is still on its way.
        return 0, b"", time.monotonic() - start
    finally:
        connection.close()


def counter(metrics: str, name: str) -> float:
    """A counter's value in Prometheus' text."""
    (value,) = re.findall(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    return float(value)


def start(model: str) -> tuple[subprocess.Popen[str], int]:
    """The service as a process, and its port."""
    slicemill_command = str(Path(sys.executable).with_name("slicemill"))
    command = [slicemill_command, "serve", "--model", model, "--port", "0", "--queue", "64"]
    with tempfile.NamedTemporaryFile("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 900
        while process.poll() is None and time.monotonic() < deadline:
            if match := re.search(r"listening on http://127\.0\.0\.1:(\d+)", Path(log.name).read_text()):
                return process, int(match[1])
            time.sleep(0.5)
        process.kill()
    raise SystemExit("the service did not start")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--clients", type=int, default=4)
    arguments.add_argument("--requests", type=int, default=48)
    options = arguments.parse_args()
    random = np.random.default_rng(0)
    slices = [random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(16)]
    process, port = start(options.model)
    try:
        result = measure(options, process, port, slices)
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    result["summary"] = json.loads(output.splitlines()[-1])
    print(json.dumps(result))


def measure(
    options: Any, process: subprocess.Popen[str], port: int, slices: list[np.ndarray]
) -> dict[str, Any]:
    """Load, then hostile bytes, then health."""
    service = psutil.Process(process.pid)
    bodies = [encode_image(plane) for plane in slices]
    ask(port, bodies[0])
    cpu = sum(service.cpu_times()[:2])
    begin = time.monotonic()
    with ThreadPoolExecutor(options.clients) as pool:
        answers = list(
            pool.map(lambda number: ask(port, bodies[number % len(bodies)]), range(options.requests))
        )
    seconds = time.monotonic() - begin
    cpu = sum(service.cpu_times()[:2]) - cpu
    predictor = slicemill.Predictor.load(options.model, "cpu")
    # As the service's first request above: what is done once is nobody's cost.
    predictor.predict(slices[0][None])
    bare_begin = time.process_time()
    masks = [predictor.predict(plane[None]).masks for plane in slices]
    bare = (time.process_time() - bare_begin) / len(slices)
    equal = all(
        np.array_equal(np.load(io.BytesIO(answers[place][1])), mask[0])
        for place, mask in enumerate(masks[: options.requests])
    )
    hostile = {name: ask(port, body)[0] for name, body in hostile_bodies().items()}
    latencies = sorted(answer[2] for answer in answers)
    good = sum(answer[0] == 200 for answer in answers)
    metrics = ask(port, b"", "/metrics")[1].decode()
    return {
        "clients": options.clients,
        "requests": len(answers),
        "answered_200": good,
        "requests_per_second": round(len(answers) / seconds, 2),
        "latency_p50": round(latencies[len(latencies) // 2], 3),
        "latency_p95": round(latencies[int(len(latencies) * 0.95)], 3),
        "cpu_seconds_per_request": round(cpu / len(answers), 3),
        "cpu_seconds_of_bare_predictor": round(bare, 3),
        "slices_per_batch": round(
            counter(metrics, "slicemill_slices_total") / counter(metrics, "slicemill_batch_slices_count"), 2
        ),
        "masks_equal_to_predictor": equal,
        "hostile": hostile,
        "healthy_at_the_end": ask(port, b"", "/health")[0] == 200,
        "memory_mb": round(service.memory_info().rss / 1e6),
        "cores": len(os.sched_getaffinity(0)),
    }


if __name__ == "__main__":
    main()
