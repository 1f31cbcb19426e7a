"""On paper: what a study takes on each shape of cluster, from what one core was measured to do.

    python benchmarks/capacity.py [--patients 110 1000 10000] [--slices 36] [--ingest-ms 3.2] [--score-ms 70]

A step takes its start, the driver's time a scan, and its slices' CPU time over the vCPUs of the core nodes,
each worth `--vcpu` of a measured core: two vCPUs of AWS's Intel nodes share one. The minutes until a cluster
runs are added once. Sizes and prices are those that `slicemill emr` goes by. Nothing was measured on AWS.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

from slicemill.emr.capacity.instances import instance
from slicemill.emr.capacity.prices import read_prices
from slicemill.emr.capacity.shapes import shape

CORE_NODES = (2, 4, 8)


@dataclass(frozen=True)
class Estimate:
    """Minutes of a study's steps on a cluster, and dollars of ingest and scoring."""

    patients: int
    core_nodes: int
    vcpus: int
    ingest_minutes: float
    score_minutes: float
    dollars: float


def estimate(patients: int, core_nodes: int, options: argparse.Namespace) -> Estimate:
    """The estimate of one size of study on one size of cluster."""
    form = shape("cpu", core_count=core_nodes)
    vcpus = core_nodes * instance(form.core_types[0]).vcpus
    cores = vcpus * options.vcpu
    slices = patients * options.slices

    def minutes(of_a_slice: float, of_driver: float) -> float:
        return (options.start_seconds + (slices * of_a_slice / cores + patients * of_driver) / 1000) / 60

    ingest = minutes(options.ingest_ms, options.ingest_driver_ms)
    score = minutes(options.score_ms, options.score_driver_ms)
    hours = (options.cluster_minutes + ingest + score) / 60
    cost = form.hourly_cost(read_prices(options.prices))
    return Estimate(patients, core_nodes, vcpus, ingest, score, hours * (cost or float("nan")))


def main() -> None:
    """Print a row a size; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, nargs="+", default=[110, 1_000, 10_000])
    parser.add_argument("--slices", type=int, default=36, help="of a scan; the public set has 36")
    parser.add_argument("--ingest-ms", type=float, default=3.2, help="CPU time of a slice")
    parser.add_argument("--score-ms", type=float, default=70.0, help="CPU time of a slice, in fp32")
    parser.add_argument("--ingest-driver-ms", type=float, default=0.8, help="of the driver, a scan")
    parser.add_argument("--score-driver-ms", type=float, default=6.0, help="of the driver, a scan")
    parser.add_argument("--start-seconds", type=float, default=60.0, help="of a step on YARN")
    parser.add_argument("--cluster-minutes", type=float, default=8.0, help="until a cluster runs")
    parser.add_argument("--vcpu", type=float, default=0.6, help="of a measured core")
    parser.add_argument("--prices", help="a price file; see emr/README.md")
    options = parser.parse_args()
    rows = [estimate(patients, nodes, options) for patients in options.patients for nodes in CORE_NODES]
    print("| patients | core nodes | vCPUs | ingest, min | score, min | dollars |\n" + "| --- " * 6 + "|")
    for row in rows:
        print(
            f"| {row.patients:,} | {row.core_nodes} | {row.vcpus} | {row.ingest_minutes:.1f} "
            f"| {row.score_minutes:.1f} | {row.dollars:.2f} |"
        )
    print(json.dumps({"options": vars(options), "rows": [vars(row) for row in rows]}))


if __name__ == "__main__":
    main()
