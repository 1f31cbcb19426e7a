"""What EMR writes on a node before a step runs, for a cluster of this machine: etc/ and the steps' files.

    python scripts/rehearsal/node.py SITE ENVIRONMENT FOLDER NAME=PORT ...

The cluster has two nodes of one made-up instance type. Its configurations and steps are those that slicemill
renders for it; EMR's own defaults come first, as they do on EMR.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from slicemill.emr.capacity.instances import Instance, keep
from slicemill.emr.capacity.shapes import shape
from slicemill.emr.render import step_files
from slicemill.emr.requests.configurations import configurations
from slicemill.emr.requests.job_settings import JobName
from slicemill.emr.site import read_site

#: Two executors of training just fit: 4 GiB for Python, a heap of 2, and the application master beside it.
NODE = Instance("rehearsal.node", vcpus=2, memory_mib=10_752)
JOBS: tuple[JobName, ...] = ("ingest", "split", "train", "score", "report", "compare", "associate")
#: A training that takes seconds.
SHORT = ("train.epochs=1", "train.image-size=32")

Properties = dict[str, str]


def hadoop(ports: Mapping[str, str]) -> dict[str, Properties]:
    """Hadoop's files, in the words of a node: where its services are, and S3A as the file system of s3://."""
    address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    s3a = "org.apache.hadoop.fs.s3a"
    return {
        "core-site": {
            "fs.defaultFS": f"hdfs://{address['namenode']}",
            "fs.s3.impl": f"{s3a}.S3AFileSystem",
            "fs.AbstractFileSystem.s3.impl": f"{s3a}.S3A",
            "fs.s3a.endpoint": f"http://{address['s3']}",
            "fs.s3a.endpoint.region": "eu-central-1",
            "fs.s3a.path.style.access": "true",
            "fs.s3a.connection.ssl.enabled": "false",
            "fs.s3a.aws.credentials.provider": (
                "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider"
            ),
            "fs.s3a.buffer.dir": "/mnt/s3",
        },
        "hdfs-site": {
            "dfs.replication": "1",
            "dfs.namenode.name.dir": "file:///mnt/namenode",
            "dfs.datanode.data.dir": "file:///mnt/datanode",
            "dfs.namenode.http-address": "127.0.0.1:0",
            **{f"dfs.datanode.{name}": "127.0.0.1:0" for name in ("address", "http.address", "ipc.address")},
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        },
        "capacity-scheduler": {
            "yarn.scheduler.capacity.root.queues": "default",
            "yarn.scheduler.capacity.root.default.capacity": "100",
            "yarn.scheduler.capacity.maximum-am-resource-percent": "0.5",
        },
        "yarn-site": {
            "yarn.resourcemanager.hostname": "127.0.0.1",
            "yarn.resourcemanager.address": address["yarn"],
            "yarn.resourcemanager.scheduler.address": address["scheduler"],
            "yarn.resourcemanager.admin.address": address["admin"],
            "yarn.resourcemanager.resource-tracker.address": address["tracker"],
            "yarn.resourcemanager.webapp.address": address["web"],
            "yarn.nodemanager.hostname": "127.0.0.1",
            **{
                f"yarn.nodemanager.{name}": "127.0.0.1:0"
                for name in ("address", "localizer.address", "webapp.address")
            },
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99.0",
            # Containers' output outlives their application: in cluster mode the summary is in it.
            "yarn.nodemanager.delete.debug-delay-sec": "3600",
            "yarn.nodemanager.localizer.cache.target-size-mb": "102400",
            # In place of the instance profile: whose role it is, the gate says.
            "yarn.nodemanager.admin-env": ",".join(
                f"{name}={value}"
                for name, value in {
                    "AWS_ACCESS_KEY_ID": "NODES",
                    "AWS_SECRET_ACCESS_KEY": "secret",
                    "AWS_ENDPOINT_URL": f"http://{address['s3']}",
                    "SPARK_LOCAL_IP": "127.0.0.1",
                }.items()
            ),
        },
    }


#: Of EMR's own spark-defaults those that a job meets. No shuffle service is here, so Spark tracks shuffles.
EMR_SPARK = {
    "spark.master": "yarn",
    "spark.submit.deployMode": "client",
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.yarn.jars": "local:/usr/lib/spark/jars/*",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.dir": "hdfs:///var/log/spark/apps",
    "spark.ui.enabled": "false",
}


def main(site_path: str, environment: str, folder: Path, ports: Mapping[str, str]) -> None:
    """Write etc/hadoop, etc/spark, etc/spark-emr (EMR's own) and steps/ below a folder."""
    keep({NODE.name: NODE})
    nodes, site = shape("cpu", [NODE.name], 2), read_site(site_path)
    files = hadoop(ports)
    ours = {row["Classification"]: row for row in configurations(nodes, site)}
    files["yarn-site"] |= ours["yarn-site"]["Properties"]
    for name, properties in files.items():
        _write(folder / "etc/hadoop" / f"{name}.xml", _xml(properties))
    (export,) = ours["spark-env"]["Configurations"]
    exports = {"HADOOP_CONF_DIR": "/etc/hadoop/conf", **export["Properties"]}
    for name, settings, variables in (
        ("spark", EMR_SPARK | ours["spark-defaults"]["Properties"], exports),
        ("spark-emr", EMR_SPARK, {"HADOOP_CONF_DIR": "/etc/hadoop/conf"}),
    ):
        lines = [f"{key} {value}\n" for key, value in settings.items()]
        _write(folder / "etc" / name / "spark-defaults.conf", "".join(lines))
        lines = [f"export {key}={value}\n" for key, value in variables.items()]
        _write(folder / "etc" / name / "spark-env.sh", "".join(lines))
    for name, steps in step_files(site, [(nodes, environment, JOBS)], SHORT).items():
        _write(folder / "steps" / f"{name}.json", json.dumps(steps, indent=2))


def _xml(properties: Properties) -> str:
    rows = [
        f"<property><name>{key}</name><value>{escape(value)}</value></property>\n"
        for key, value in properties.items()
    ]
    return f"<configuration>\n{''.join(rows)}</configuration>\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), dict(pair.split("=", 1) for pair in sys.argv[4:]))
