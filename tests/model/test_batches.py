from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from slicemill.core.evaluation.options import PredictionOptions
from slicemill.core.scans.normalise import RULE_NAMES
from slicemill.core.scans.scan import Scan, Slice
from slicemill.io.raw.tiff import count_values
from slicemill.model.device import to_device
from slicemill.model.networks.registry import architecture
from slicemill.model.predicting import batches
from slicemill.model.predicting.batches import predict_scans, scan_input
from slicemill.model.predicting.cleaning import clean_mask
from slicemill.model.predicting.engines.engine import TorchEngine
from slicemill.model.predicting.predictor import NetworkPredictor

SIZE = 32


class Card:
    channels, input_size, threshold, channel_mode = ("a", "b", "c"), SIZE, 0.5, "rgb"
    normalisation = RULE_NAMES["volume"]


class Brightness(nn.Module):
    """Logits are the mean over channels; remembers the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(len(inputs))
        return inputs.mean(dim=1, keepdim=True)


class Classifier(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean(dim=(1, 2, 3))[:, None]


def predictor(network: nn.Module) -> NetworkPredictor:
    return NetworkPredictor(Card(), TorchEngine(network.eval(), torch.device("cpu"), "fp32"))  # type: ignore[arg-type]


def scan(name: str, slices: int, shape: tuple[int, int] = (SIZE, SIZE)) -> Scan:
    random = np.random.default_rng(len(name) + 100 * slices + shape[0])
    made = []
    for index in range(slices):
        image = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        made.append(Slice(index + 1, image, None, count_values(image), "absent", ""))
    return Scan(name, name, tuple(made), ())


def alone(one: Scan, by: NetworkPredictor, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
    """Masks and peaks of a scan, slice by slice."""
    scale = scan_input(one, by.card)[1][None]
    found = np.concatenate([by.predict(each.image[None], scale) for each in one.slices])
    return clean_mask(found, 0.5, PredictionOptions(smooth_slices=smooth)), found.max(axis=(1, 2))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([(32, 32), (20, 45), (64, 64)])), max_size=6),
    st.integers(1, 7),
    st.booleans(),
)
def test_however_scans_share_batches_each_is_what_it_is_alone(
    sizes: list[tuple[int, tuple[int, int]]], batch_size: int, smooth: bool
) -> None:
    network = Brightness()
    by = predictor(network)
    given_scans = [scan(f"s{number}", *size) for number, size in enumerate(sizes)]
    pairs = ((one.scan_id, one) for one in given_scans)
    found = list(predict_scans(pairs, by, batch_size, 0.5, PredictionOptions(smooth_slices=smooth)))
    total = sum(count for count, _ in sizes)
    assert network.seen == [batch_size] * -(-total // batch_size)
    assert [item for item, _, _ in found] == [one.scan_id for one in given_scans]
    for _, one, prediction in found:
        if not one.slices:
            assert prediction.masks is None
            assert len(prediction.peaks) == 0
            continue
        masks, peaks = alone(one, by, smooth)
        assert prediction.masks is not None
        assert prediction.masks.dtype == np.uint8
        assert np.array_equal(prediction.masks, masks)
        assert np.array_equal(prediction.peaks, peaks)


def test_a_real_networks_numbers_do_not_depend_on_the_neighbours() -> None:
    torch.manual_seed(0)
    by = predictor(to_device(architecture("unet-resnet18", "segment").build(), torch.device("cpu")))
    target, others = scan("target", 5), [scan("a", 3), scan("bb", 6, (48, 40))]

    def peaks(*order: Scan) -> np.ndarray:
        found = {
            item: one for item, _, one in predict_scans(((one.scan_id, one) for one in order), by, 4, 0.5)
        }
        return found["target"].peaks

    expected = peaks(target)
    for order in ((others[0], target), (others[1], target, others[0]), (*others, target)):
        assert np.array_equal(peaks(*order), expected)


def test_scans_are_asked_for_only_when_their_turn_comes() -> None:
    asked: list[int] = []

    def endless() -> Iterator[tuple[int, Scan]]:
        for number in range(1000):
            asked.append(number)
            yield number, scan("s", 5)

    source = predict_scans(endless(), predictor(Brightness()), 4, 0.5)
    for number in range(20):
        assert next(source)[0] == number
        # Five slices each: two batches of four are those of this scan and the next two or three.
        assert max(asked) <= number + 3


def test_large_slices_are_resized_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    by, one = predictor(Brightness()), scan("large", 7, (64, 64))
    (whole,) = predict_scans([("x", one)], by, 8, 0.5)
    seen: list[int] = []
    inputs = NetworkPredictor.inputs

    def watched(self: NetworkPredictor, images: np.ndarray, scale: np.ndarray) -> Tensor:
        seen.append(len(images))
        return inputs(self, images, scale)

    monkeypatch.setattr(batches, "_PIXELS", 2 * 64 * 64)
    monkeypatch.setattr(NetworkPredictor, "inputs", watched)
    (pieces,) = predict_scans([("x", one)], by, 8, 0.5)
    assert seen == [2, 2, 2, 1]
    assert np.array_equal(pieces[2].peaks, whole[2].peaks)


def test_a_classifier_gives_a_probability_and_no_mask() -> None:
    one = scan("c", 6)
    ((_, _, found),) = predict_scans([("x", one)], predictor(Classifier()), 4, 0.5)
    assert found.masks is None
    assert found.peaks.shape == (6,)
    assert np.all((found.peaks > 0) & (found.peaks < 1))


class LeftRight(nn.Module):
    """Logits that depend on where a pixel is, besides what it is."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, :1] * torch.arange(inputs.shape[3])


def test_flips_are_turned_back_before_they_are_averaged() -> None:
    by = predictor(LeftRight())
    images = torch.randn(2, 3, 4, 6)
    # Over both directions a pixel's column and the one across from it add up to the width.
    assert torch.allclose(by.logits(images, flips=True), images[:, :1] * 2.5)
    assert torch.equal(by.logits(images), images[:, :1] * torch.arange(6))


def _with_air(name: str, slices: int) -> Scan:
    """Noise inside a dark frame, and a last slice of air."""
    whole = scan(name, slices, (128, 128))
    made = []
    for source in whole.slices:
        image = np.zeros_like(source.image)
        if source.slice_index < slices:
            inner = (slice(36 + 2 * source.slice_index, 90), slice(50, 95))
            image[inner] = source.image[inner] // 2 + 100
        made.append(Slice(source.slice_index, image, None, count_values(image), "absent", ""))
    return Scan(name, name, tuple(made), ())


def test_boxes_give_what_whole_slices_give_inside_them_and_no_tumour_in_air() -> None:
    torch.manual_seed(0)
    by = predictor(nn.Conv2d(3, 1, 3, padding=1))
    by.card.input_size, by.card.members = 128, ()  # type: ignore[misc]
    one = _with_air("a", 5)
    ((_, _, whole),) = predict_scans([("x", one)], by, 2, 0.5)
    ((_, _, boxed),) = predict_scans([("x", one)], by, 2, 0.5, PredictionOptions(boxes=True))
    assert boxed.masks is not None
    assert whole.masks is not None
    for mask, reference, source in zip(boxed.masks, whole.masks, one.slices, strict=True):
        inside = source.image.max(axis=-1) > 0
        assert np.array_equal(mask[inside], reference[inside])
    assert boxed.peaks[-1] < 1e-6
    assert not boxed.masks[-1].any()
    others = [_with_air("b", 3), _with_air("cc", 4)]
    pairs = ((each.scan_id, each) for each in (*others, one))
    (*_, (_, _, again)) = predict_scans(pairs, by, 2, 0.5, PredictionOptions(boxes=True))
    assert again.masks is not None
    assert np.array_equal(again.masks, boxed.masks)
    assert np.array_equal(again.peaks, boxed.peaks)
