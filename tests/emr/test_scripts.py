"""The bootstrap scripts, run: twice, on a wrong archive, with and without a GPU."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from emr_builder import EMR

BOOTSTRAP = EMR / "bootstrap"


def command(folder: Path, name: str, body: str) -> None:
    """A stand-in for a command that only a node has."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
    (folder / name).chmod(0o755)


def run(script: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "SLICEMILL_STORE": str(tmp_path / "mnt"),
        "SLICEMILL_LINK": str(tmp_path / "link"),
        "SLICEMILL_CGROUP_ROOT": str(tmp_path / "cgroup"),
        "SLICEMILL_PCI_DEVICES": str(tmp_path / "pci"),
    }
    return subprocess.run(
        [str(BOOTSTRAP / script), *arguments], capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with a Python that answers, in a folder that stands for S3."""
    content = tmp_path / "content" / "bin"
    content.parent.mkdir()
    command(content, "python", "echo slicemill 0")
    packed = tmp_path / "packed.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(content.parent, ".")
    named = tmp_path / f"slicemill-0-cpu-{hashlib.sha256(packed.read_bytes()).hexdigest()}.tar.gz"
    packed.rename(named)
    command(tmp_path / "bin", "aws", f'echo fetched >>{tmp_path}/aws.log; cp "{tmp_path}/${{4##*/}}" "$5"')
    command(tmp_path / "bin", "sudo", '"$@"')
    return named


def test_an_environment_is_unpacked_once_and_linked(tmp_path: Path, archive: Path) -> None:
    for _ in range(2):
        done = run("environment.sh", tmp_path, f"s3://code/environments/{archive.name}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("is slicemill 0\n")
    assert (tmp_path / "link" / "bin" / "python").is_file()
    assert (tmp_path / "aws.log").read_text() == "fetched\n"
    assert [path.name for path in (tmp_path / "mnt").iterdir()] == [archive.name[-71:-7]]


def test_an_archive_of_other_bytes_is_refused(tmp_path: Path, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"\0")
    done = run("environment.sh", tmp_path, f"s3://code/{archive.name}")
    assert done.returncode != 0
    assert not (tmp_path / "link").exists()
    assert list((tmp_path / "mnt").iterdir()) == []


def test_an_archive_without_its_hash_is_refused_before_it_is_fetched(tmp_path: Path, archive: Path) -> None:
    done = run("environment.sh", tmp_path, "s3://code/environment.tar.gz")
    assert done.returncode == 2
    assert not (tmp_path / "aws.log").exists()


def test_a_node_without_the_interpreter_fails_at_start(tmp_path: Path, archive: Path) -> None:
    content = tmp_path / "other" / "bin"
    content.parent.mkdir()
    content.mkdir()
    (content / "python").symlink_to("/nowhere/python3.11")
    packed = tmp_path / "packed.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(content.parent, ".")
    name = f"e-{hashlib.sha256(packed.read_bytes()).hexdigest()}.tar.gz"
    packed.rename(tmp_path / name)
    assert run("environment.sh", tmp_path, f"s3://code/{name}").returncode != 0
    assert not (tmp_path / "link").exists()


DISCOVER = EMR.parent / "src" / "slicemill" / "emr" / "requests" / "discover_gpus.sh"


def node(tmp_path: Path, *, vendor: str = "0x10de", driver: str | None = "555.42.06", gpus: int = 1) -> None:
    """A node with one PCI device, and with nvidia-smi if a driver is installed."""
    device = tmp_path / "pci" / "0000:00:1e.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text("0x030200\n")
    command(tmp_path / "bin", "sudo", '"$@"')
    command(tmp_path / "bin", "mount", f'echo "$@" >>{tmp_path}/mount.log')
    command(tmp_path / "bin", "mountpoint", f"[[ -e {tmp_path}/mount.log ]]")
    if driver:
        lines = "".join(f"echo {index};" for index in range(gpus)) or ":"
        command(tmp_path / "bin", "nvidia-smi", f'case "$1" in *driver*) echo {driver};; *) {lines} ;; esac')


def discover(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(DISCOVER)],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        check=False,
    )


def test_gpu_nodes_get_cgroups_once(tmp_path: Path) -> None:
    node(tmp_path)
    for _ in range(2):
        done = run("gpu.sh", tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "mount.log").read_text().count("cgroupv1-devices") == 1


def test_a_node_whose_driver_comes_later_gets_its_cgroups_all_the_same(tmp_path: Path) -> None:
    node(tmp_path, driver=None)
    done = run("gpu.sh", tmp_path)
    assert (done.returncode, "not installed yet" in done.stdout) == (0, True)
    assert "cgroupv1-devices" in (tmp_path / "mount.log").read_text()


def test_a_driver_too_old_for_cuda_12_stops_the_node(tmp_path: Path) -> None:
    node(tmp_path, driver="515.65.01")
    done = run("gpu.sh", tmp_path)
    assert done.returncode == 1
    assert "515.65.01 is too old" in done.stderr


def test_a_primary_node_without_a_gpu_needs_no_driver(tmp_path: Path) -> None:
    node(tmp_path, vendor="0x1d0f", driver="515.65.01")
    done = run("gpu.sh", tmp_path)
    assert (done.returncode, "has no GPU" in done.stdout) == (0, True)


def test_an_executor_finds_the_gpus_of_its_container(tmp_path: Path) -> None:
    node(tmp_path, gpus=2)
    assert json.loads(discover(tmp_path).stdout) == {"name": "gpu", "addresses": ["0", "1"]}


def test_a_container_without_a_gpu_is_told_to_spark(tmp_path: Path) -> None:
    node(tmp_path, gpus=0)
    done = discover(tmp_path)
    assert done.returncode == 1
    assert "no GPU" in done.stderr
