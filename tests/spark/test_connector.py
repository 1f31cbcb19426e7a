"""Spark reaches s3:// through jars that are pinned, complete and nobody's second version."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from slicemill.errors import MachineError
from slicemill.io import storage
from slicemill.spark import connector

_NO_KEYS: dict[str, str] = {}
_KEYS = {"AWS_ACCESS_KEY_ID": "not-to-be-seen", "AWS_SECRET_ACCESS_KEY": "never-to-be-seen"}


def _setting(environ: dict[str, str], name: str) -> str | None:
    return connector.s3a_settings(environ).get(f"spark.hadoop.{name}")


def test_s3_uris_go_to_s3a() -> None:
    assert _setting(_NO_KEYS, "fs.s3.impl") == "org.apache.hadoop.fs.s3a.S3AFileSystem"


def test_without_an_endpoint_the_server_is_left_to_s3a() -> None:
    assert _setting(_NO_KEYS, "fs.s3a.endpoint") is None
    assert _setting(_NO_KEYS, "fs.s3a.endpoint.region") is None
    assert _setting(_NO_KEYS, "fs.s3a.path.style.access") is None


@pytest.mark.parametrize(
    ("endpoint", "encrypted"), [("http://127.0.0.1:9000", "false"), ("https://store.example", "true")]
)
def test_an_endpoint_is_taken_with_path_style_and_its_scheme(endpoint: str, encrypted: str) -> None:
    environ = {"AWS_ENDPOINT_URL": endpoint}
    assert _setting(environ, "fs.s3a.endpoint") == endpoint
    assert _setting(environ, "fs.s3a.path.style.access") == "true"
    assert _setting(environ, "fs.s3a.connection.ssl.enabled") == encrypted
    assert _setting(environ, "fs.s3a.endpoint.region") == "us-east-1"


def test_the_endpoint_of_s3_alone_comes_before_the_general_one() -> None:
    environ = {"AWS_ENDPOINT_URL_S3": "http://s3.example", "AWS_ENDPOINT_URL": "http://all.example"}
    assert _setting(environ, "fs.s3a.endpoint") == "http://s3.example"


def test_the_region_comes_from_either_variable() -> None:
    assert _setting({"AWS_DEFAULT_REGION": "eu-west-1"}, "fs.s3a.endpoint.region") == "eu-west-1"
    both = {"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "eu-west-1"}
    assert _setting(both, "fs.s3a.endpoint.region") == "eu-north-1"


@pytest.mark.parametrize(
    ("environ", "provider"),
    [
        (_NO_KEYS, "DefaultCredentialsProvider"),
        (_KEYS, "SimpleAWSCredentialsProvider"),
        ({**_KEYS, "AWS_SESSION_TOKEN": "x"}, "TemporaryAWSCredentialsProvider"),
    ],
    ids=["no keys", "keys", "keys for a session"],
)
def test_the_credentials_provider_fits_what_there_is(environ: dict[str, str], provider: str) -> None:
    found = _setting(environ, "fs.s3a.aws.credentials.provider")
    assert found is not None
    assert found.rpartition(".")[2] == provider


def test_no_key_enters_the_configuration() -> None:
    assert "to-be-seen" not in str(connector.s3a_settings({**_KEYS, "AWS_ENDPOINT_URL": "http://x"}))


def test_emr_keeps_its_own_s3a(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(connector, "_EMR_FOLDER", str(tmp_path))
    assert connector.s3a_settings({"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}) == {}


def _classes(jar: Path) -> set[str]:
    with zipfile.ZipFile(jar) as archive:
        return {name for name in archive.namelist() if name.endswith(".class") and "-info" not in name}


def test_no_class_of_the_connector_comes_a_second_time() -> None:
    pinned = connector.pinned_sums()
    jars = list(connector.pyspark_jars().glob("*.jar"))
    ours = [name for jar in jars if jar.name in pinned for name in _classes(jar)]
    theirs = {name for jar in jars if jar.name not in pinned for name in _classes(jar)}
    assert "org/apache/hadoop/fs/s3a/S3AFileSystem.class" in ours
    assert "org/slf4j/Logger.class" in theirs
    assert len(ours) == len(set(ours))
    assert not theirs & set(ours)


def test_the_pinned_jars_are_those_of_the_coordinates() -> None:
    names = set(connector.pinned_sums())
    for group, module, version in (coordinate.split(":") for coordinate in connector.COORDINATES):
        assert f"{group}_{module}-{version}.jar" in names


def test_a_complete_connector_is_not_fetched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in connector.pinned_sums():
        (tmp_path / name).symlink_to(connector.pyspark_jars() / name)
    monkeypatch.setattr(connector, "resolve", lambda scratch: pytest.fail("fetched again"))
    assert connector.install(tmp_path) is False


def test_a_damaged_jar_is_put_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good, target = tmp_path / "good", tmp_path / "target"
    good.mkdir()
    target.mkdir()
    for name in connector.pinned_sums():
        (good / name).symlink_to(connector.pyspark_jars() / name)
        (target / name).symlink_to(connector.pyspark_jars() / name)
    damaged = target / next(iter(connector.pinned_sums()))
    damaged.unlink()
    damaged.write_bytes(b"half a jar")
    monkeypatch.setattr(connector, "resolve", lambda scratch: good)
    assert connector.install(target) is True
    assert connector.sha256_sums(target, connector.pinned_sums()) == connector.pinned_sums()


def test_other_bytes_are_refused_and_nothing_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetched, target = tmp_path / "fetched", tmp_path / "target"
    fetched.mkdir()
    target.mkdir()
    for name in connector.pinned_sums():
        (fetched / name).write_bytes(b"something else")
    monkeypatch.setattr(connector, "resolve", lambda scratch: fetched)
    with pytest.raises(MachineError, match="not the pinned one"):
        connector.install(target)
    assert list(target.iterdir()) == []
    assert not connector.connector_present(target)


def test_without_java_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no-java"))
    with pytest.raises(MachineError, match=r"can't be fetched.*Java 17 or 21") as caught:
        connector.resolve(tmp_path)
    assert "\n" not in str(caught.value)


def _rows(spark: SparkSession, uri: str) -> list[tuple[int, str]]:
    return sorted((row["number"], row["part"]) for row in spark.read.parquet(uri).collect())


@pytest.fixture
def table(spark: SparkSession, bucket: str) -> str:
    uri = f"{bucket}/some/table"
    frame = spark.createDataFrame(
        [(number, "ab"[number % 2]) for number in range(10)], "number int, part string"
    )
    frame.repartition(3).write.partitionBy("part").parquet(uri)
    return uri


def test_spark_writes_what_it_and_the_storage_room_read(spark: SparkSession, table: str) -> None:
    assert _rows(spark, table) == [(number, "ab"[number % 2]) for number in range(10)]
    names = [file.uri.removeprefix(table) for file in storage.list_files(table)]
    assert "/_SUCCESS" in names
    assert any(name.startswith("/part=a/") for name in names)
    assert not any("_temporary" in name for name in names)


def test_spark_overwrites_and_appends(spark: SparkSession, table: str) -> None:
    more = spark.createDataFrame([(99, "a")], "number int, part string")
    more.write.mode("append").partitionBy("part").parquet(table)
    assert len(_rows(spark, table)) == 11
    more.write.mode("overwrite").partitionBy("part").parquet(table)
    assert _rows(spark, table) == [(99, "a")]


def test_spark_overwrites_one_partition_alone(spark: SparkSession, table: str) -> None:
    more = spark.createDataFrame([(99, "a")], "number int, part string")
    writer = more.write.mode("overwrite").option("partitionOverwriteMode", "dynamic")
    writer.partitionBy("part").parquet(table)
    assert _rows(spark, table) == sorted([(99, "a"), *((number, "b") for number in range(1, 10, 2))])


def test_spark_reads_binary_files_that_the_storage_room_wrote(spark: SparkSession, bucket: str) -> None:
    storage.write_bytes(f"{bucket}/raw/one.tif", b"slice")
    (row,) = spark.read.format("binaryFile").load(f"{bucket}/raw/*.tif").collect()
    assert bytes(row["content"]) == b"slice"
