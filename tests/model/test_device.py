from __future__ import annotations

import pytest
import torch

from slicemill.errors import MachineError
from slicemill.model.device import autocast, choose_device, choose_precision, see_gpus, to_device

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two GPUs, as far as torch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return monkeypatch


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(("rank", "expected"), [(0, "cuda:0"), (1, "cuda:1"), (2, "cuda:0")])
def test_ranks_take_gpus_in_turn(gpus: pytest.MonkeyPatch, rank: int, expected: str) -> None:
    assert choose_device("auto", rank) == choose_device("cuda", rank) == torch.device(expected)
    assert choose_device("cpu", rank) == CPU


def test_auto_takes_the_cpu_where_there_is_no_gpu(no_gpu: None) -> None:
    assert choose_device("auto") == CPU


def test_a_gpu_that_is_asked_for_and_not_there(no_gpu: None) -> None:
    with pytest.raises(MachineError, match=r"no GPU is seen.*--device cpu"):
        choose_device("cuda")


def test_auto_takes_bf16_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for avx512, amx, expected in ((False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda found=avx512: found)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda found=amx: found)
        assert choose_precision("auto", CPU) == expected
        assert choose_precision("fp32", CPU) == "fp32"


def test_bf16_is_a_matter_of_the_forward_pass() -> None:
    matrix = torch.ones(2, 2)

    with autocast(CPU, "bf16"):
        assert (matrix @ matrix).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert (matrix @ matrix).dtype == torch.float32


def test_weights_are_to_device_in_channels_last_order() -> None:
    network = to_device(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)), CPU)

    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_what_a_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "9")
    see_gpus(None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "9"
    see_gpus("1,2")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
    see_gpus("")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
