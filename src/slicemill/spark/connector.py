"""S3A for pip's pyspark, which brings no S3 connector, and Spark's settings for s3:// URIs.

`python -m slicemill.spark.connector` resolves the connector from Maven Central once, through Spark's own Ivy,
checks it against `connector_sums.txt` beside this file, and puts it into pyspark's folder of jars, where
spark-submit, python and slicemill find it alike. Libraries that Spark brings itself are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import pyspark

from slicemill.errors import MachineError

log = logging.getLogger(__name__)

HADOOP_VERSION = "3.4.1"
#: Hadoop 3.4.1 was built with 2.24.6, of which kms and s3-transfer-manager do not resolve.
SDK_VERSION = "2.24.5"
#: Modules of the AWS SDK that S3A needs; the bundle of all of them is 500 MB.
SDK_MODULES = ("s3", "sts", "kms", "s3-transfer-manager", "apache-client", "netty-nio-client")
COORDINATES = (
    f"org.apache.hadoop:hadoop-aws:{HADOOP_VERSION}",
    *(f"software.amazon.awssdk:{module}:{SDK_VERSION}" for module in SDK_MODULES),
)
#: The bundle, and what pyspark already holds: two versions of one library on a class path are a lottery.
EXCLUDED = (
    "software.amazon.awssdk:bundle",
    "io.netty:*",
    "org.apache.httpcomponents:*",
    "org.slf4j:*",
    "commons-codec:*",
    "commons-logging:*",
)

_SUMS = "connector_sums.txt"
_ATTEMPTS = 3
_EMR_FOLDER = "/usr/share/aws/emr"
_S3A = "org.apache.hadoop.fs.s3a"


def on_emr() -> bool:
    """Whether this is a node or an image of EMR, whose own S3A answers s3:// already."""
    return os.path.isdir(_EMR_FOLDER)


def s3a_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Spark configuration that makes s3:// URIs work with open-source Spark; nothing on EMR.

    Follows botocore's variables, so that Spark and boto3 reach the same server: AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL, AWS_REGION or AWS_DEFAULT_REGION. Keys are in none of the settings: Spark takes
    AWS_ACCESS_KEY_ID and its companions from the environment by itself.
    """
    if on_emr():
        return {}
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    settings = {
        "fs.s3.impl": f"{_S3A}.S3AFileSystem",
        "fs.s3a.aws.credentials.provider": _credentials_provider(environ),
    }
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        settings["fs.s3a.endpoint"] = endpoint
        settings["fs.s3a.path.style.access"] = "true"
        settings["fs.s3a.connection.ssl.enabled"] = str(endpoint.startswith("https://")).lower()
        region = region or "us-east-1"
    if region:
        settings["fs.s3a.endpoint.region"] = region
    return {f"spark.hadoop.{name}": value for name, value in settings.items()}


def _credentials_provider(environ: Mapping[str, str]) -> str:
    if not environ.get("AWS_ACCESS_KEY_ID"):
        # The SDK's own chain knows profiles, which S3A's default chain does not and boto3 does.
        return "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"
    return f"{_S3A}.{'Temporary' if environ.get('AWS_SESSION_TOKEN') else 'Simple'}AWSCredentialsProvider"


def pyspark_jars() -> Path:
    """Folder of the jars of pip's pyspark."""
    return Path(pyspark.__file__).parent / "jars"


def pinned_sums() -> dict[str, str]:
    """SHA-256 of each jar of the connector, by file name."""
    lines = (files(__package__) / _SUMS).read_text("ascii").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def connector_present(jars: Path | None = None) -> bool:
    """Whether every jar of the connector is in the folder, pyspark's by default."""
    folder = jars or pyspark_jars()
    return all((folder / name).is_file() for name in pinned_sums())


def install(jars: Path | None = None) -> bool:
    """Put the connector into the folder, pyspark's by default; return False if it was there already.

    Raises MachineError if it can't be fetched, or differs from the pinned sums.
    """
    folder, sums = jars or pyspark_jars(), pinned_sums()
    if connector_present(folder) and sha256_sums(folder, sums) == sums:
        return False
    with tempfile.TemporaryDirectory(prefix="slicemill-connector-") as scratch:
        fetched = resolve(Path(scratch))
        own_sums = sha256_sums(fetched, sorted(path.name for path in fetched.glob("*.jar")))
        if own_sums != sums:
            altered = sorted(name for name in own_sums.keys() | sums if own_sums.get(name) != sums.get(name))
            raise MachineError(
                "the S3 connector that was fetched is not the pinned one",
                expected=f"the SHA-256 sums in {_SUMS}",
                found=f"other bytes for {', '.join(altered)}",
                advice="Check which repository or proxy answers for Maven Central; nothing was installed.",
            )
        for name in sums:
            _publish(fetched / name, folder / name)
    return True


def sha256_sums(folder: Path, names: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of the named files of a folder."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _publish(source: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        shutil.copyfile(source, draft)
        os.replace(draft, target)
    except OSError as error:
        raise MachineError(
            "the S3 connector can't be installed",
            expected=f"a folder that can be written: {target.parent}",
            found=str(error),
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def submit_command(scratch: Path) -> list[str]:
    """The spark-submit call that makes Spark's Ivy fetch the connector below `scratch`."""
    script = scratch / "nothing.py"
    return [
        str(Path(pyspark.__file__).parent / "bin" / "spark-submit"),
        *("--master", "local[1]"),
        *("--packages", ",".join(COORDINATES)),
        *("--exclude-packages", ",".join(EXCLUDED)),
        *("--conf", f"spark.jars.ivy={scratch / 'ivy'}"),
        str(script),
    ]


def resolve(scratch: Path) -> Path:
    """Fetch the connector from Maven Central below `scratch`; return the folder that holds its jars.

    Raises MachineError with Ivy's or Java's own word if it can't be had.
    """
    command = submit_command(scratch)
    Path(command[-1]).write_text("")
    environ = {
        **os.environ,
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "PYSPARK_PYTHON": sys.executable,
    }
    output = ""
    for _ in range(_ATTEMPTS):
        process = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if process.returncode == 0:
            return scratch / "ivy" / "jars"
        output = process.stderr + process.stdout
    raise MachineError(
        "Spark's S3 connector can't be fetched",
        expected="Java 17 or 21, and Maven Central within reach",
        found=_fault(output),
        advice="Check both (DEFAULT_ARTIFACT_REPOSITORY names a mirror) and run make again.",
    )


def _fault(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [
        line for line in lines if "Exception" in line or "JAVA_HOME" in line or line.startswith("Error")
    ]
    return (telling or lines or ["nothing"])[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Install the connector, or with --write-sums pin what Maven Central has now."""
    parser = argparse.ArgumentParser(prog="python -m slicemill.spark.connector", description=main.__doc__)
    parser.add_argument(
        "--write-sums", metavar="FILE", help="resolve, write the SHA-256 sums, install nothing"
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        if options.write_sums:
            write_sums(Path(options.write_sums))
        elif not on_emr():
            log.info("S3 connector: %s", "installed" if install() else "already there")
    except MachineError as error:
        log.error("slicemill: %s", error)
        return error.exit_code
    return 0


def write_sums(target: Path) -> None:
    """Write the sums of the connector that Maven Central has now, in sha256sum's form."""
    with tempfile.TemporaryDirectory(prefix="slicemill-connector-") as scratch:
        fetched = resolve(Path(scratch))
        sums = sha256_sums(fetched, sorted(path.name for path in fetched.glob("*.jar")))
    target.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), "ascii")


if __name__ == "__main__":
    sys.exit(main())
