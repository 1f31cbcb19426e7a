"""Synthetic head scans with a tumour, for the demo and the tests. No patient is in them.

A head is a set of nested, wobbling ellipsoids (scalp, skull, CSF, grey and white matter, ventricles) in
coordinates (z, y, x), each from -1 to 1; a slice is its cut at one z, seen in three sequences. What is bright
in FLAIR is not always tumour: scalp, caps of the ventricles and small round spots are as bright, and unlike
the tumour they are not dark in the pre-contrast sequence, so a threshold fails where a network learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from slicemill.types import Floats, ScanImages, ScanMasks

#: Synthetic institutions of the scans' names.
INSTITUTIONS = ("SYA", "SYB", "SYC")

_PRE, _FLAIR, _POST = 0, 1, 2
_SEQUENCES = 3
#: Share of full scale in the pre-contrast, FLAIR and post-contrast sequence.
_TISSUE = {
    "scalp": (0.62, 0.68, 0.66),
    "skull": (0.07, 0.06, 0.07),
    "csf": (0.16, 0.09, 0.18),
    "grey": (0.40, 0.47, 0.44),
    "white": (0.52, 0.38, 0.56),
    "cap": (0.47, 0.68, 0.50),
    "spot": (0.50, 0.72, 0.54),
    "vessel": (0.40, 0.30, 0.90),
    "tumour": (0.27, 0.66, 0.31),
    "cyst": (0.18, 0.36, 0.20),
}
_SCALE = 215.0


@dataclass(frozen=True)
class PhantomScan:
    """One synthetic scan: images uint8 (S, H, W, 3), masks uint8 0/1 (S, H, W)."""

    scan_id: str
    images: ScanImages
    masks: ScanMasks


class _Noise:
    """A smooth random field over (z, y, x) of mean 0 and variance 1; `pitch` is the size of its grain."""

    def __init__(self, rng: np.random.Generator, pitch: float, size: int) -> None:
        self._nodes = np.arange(-1 - 2 * pitch, 1 + 2.5 * pitch, pitch)
        self._pitch = pitch
        self._values = rng.standard_normal((len(self._nodes),) * 3)
        self._spread = self._weights(np.linspace(-1, 1, size))

    def _weights(self, where: Floats) -> Floats:
        weights = np.exp(-0.5 * ((where[:, None] - self._nodes) / (0.7 * self._pitch)) ** 2)
        return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True))

    def at(self, z: float) -> Floats:
        """The field at one z, axes (H, W)."""
        plane = np.tensordot(self._weights(np.array([z])), self._values, 1)[0]
        return np.asarray(self._spread @ plane @ self._spread.T)


@dataclass(frozen=True)
class _Blob:
    """An ellipsoid: centre and half-axes in (z, y, x)."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]

    def radius(self, z: float, y: Floats, x: Floats) -> Floats:
        """Distance from the centre in units of the half-axes, axes (H, W)."""
        dz, dy, dx = (
            (at - mid) / axis
            for at, mid, axis in zip((np.asarray(z), y, x), self.centre, self.axes, strict=True)
        )
        return np.asarray(np.sqrt(dz**2 + dy**2 + dx**2))


@dataclass(frozen=True)
class _Scene:
    """Everything about one synthetic head that does not change from slice to slice."""

    y: Floats
    x: Floats
    head: _Blob
    ventricles: tuple[_Blob, ...]
    spots: tuple[_Blob, ...]
    vessels: tuple[_Blob, ...]
    tumour: _Blob
    cystic: bool
    enhancing: bool
    tissue: dict[str, Floats]
    noise: dict[str, _Noise]
    bias: tuple[_Noise, ...]


def scan_id(number: int, seed: int) -> str:
    """Name of synthetic scan `number`, from 1, in the public data set's form."""
    rng = np.random.default_rng((seed, number, 1))
    day = date(2001, 1, 1) + timedelta(days=int(rng.integers(0, 3650)))
    return f"{patient_id(number)}_{day:%Y%m%d}"


def patient_id(number: int) -> str:
    """Name of the synthetic patient of scan `number`."""
    return f"PHANTOM_{INSTITUTIONS[number % len(INSTITUTIONS)]}_{number:04d}"


def make_scan(number: int, seed: int, size: int) -> PhantomScan:
    """Synthetic scan `number`, 20 to 40 slices of `size` pixels a side.

    The same number, seed and size give the same pixels, however many scans are made.
    """
    rng = np.random.default_rng((seed, number))
    heights = np.linspace(-0.72, 0.86, int(rng.integers(20, 41)))
    scene = _draw_scene(rng, size)
    gain = rng.uniform(0.75, 1.1) * rng.uniform(0.85, 1.15, _SEQUENCES)
    gamma = rng.uniform(0.85, 1.2, _SEQUENCES)
    grain = rng.uniform(0.008, 0.022)
    lacking = rng.choice([_PRE, _POST]) if rng.random() < 0.15 else None
    images = np.empty((len(heights), size, size, _SEQUENCES), np.uint8)
    masks = np.empty((len(heights), size, size), np.uint8)
    for index, height in enumerate(heights):
        light, masks[index] = _render(scene, float(height))
        images[index] = _expose(rng, light**gamma * gain, grain)
    if lacking is not None:
        # The public set repeats FLAIR where a sequence is missing.
        images[..., lacking] = images[..., _FLAIR]
    return PhantomScan(scan_id(number, seed), images, masks)


def _expose(rng: np.random.Generator, light: Floats, grain: float) -> npt.NDArray[np.uint8]:
    """Magnitude image of a noisy complex signal (Rician noise, as MRI has it), uint8."""
    real, imaginary = rng.standard_normal((2, *light.shape), np.float32) * grain
    grey = np.rint(np.hypot(light + real, imaginary) * _SCALE)
    return np.asarray(np.clip(grey, 0, 255), dtype=np.uint8)


def _draw_scene(rng: np.random.Generator, size: int) -> _Scene:
    line = np.linspace(-1, 1, size)
    y, x = np.meshgrid(line, line, indexing="ij")
    turn = rng.uniform(-0.14, 0.14)
    y, x = y * np.cos(turn) - x * np.sin(turn), x * np.cos(turn) + y * np.sin(turn)
    stretch = rng.uniform(0.93, 1.07, 3)
    head = _Blob(
        (0.0, *rng.uniform(-0.05, 0.05, 2)), (1.05 * stretch[0], 0.9 * stretch[1], 0.73 * stretch[2])
    )
    tissue = {name: np.array(light) * rng.uniform(0.93, 1.07, _SEQUENCES) for name, light in _TISSUE.items()}
    # Tumours differ more than healthy tissue does.
    tissue["tumour"] *= rng.uniform(0.88, 1.1)
    grains = {"surface": 0.45, "fold": 0.1, "texture": 0.07, "edge": 0.17, "enhance": 0.12}
    return _Scene(
        y=y,
        x=x,
        head=head,
        ventricles=_draw_ventricles(rng),
        spots=_draw_dots(rng, int(rng.integers(4, 10)), (0.025, 0.05)),
        vessels=_draw_dots(rng, 25, (0.012, 0.025)),
        tumour=_draw_tumour(rng),
        cystic=bool(rng.random() < 0.25),
        enhancing=bool(rng.random() < 0.6),
        tissue=tissue,
        noise={name: _Noise(rng, pitch, size) for name, pitch in grains.items()},
        bias=tuple(_Noise(rng, 0.9, size) for _ in range(_SEQUENCES)),
    )


def _draw_ventricles(rng: np.random.Generator) -> tuple[_Blob, ...]:
    wide = rng.uniform(0.8, 1.3)
    horns = []
    for side in (-1, 1):
        horns.append(_Blob((0.12, -0.16, side * 0.09 * wide), (0.30, 0.17, 0.055 * wide)))
        horns.append(_Blob((0.10, 0.14, side * 0.13 * wide), (0.34, 0.22, 0.060 * wide)))
    return (*horns, _Blob((-0.15, 0.02, 0.0), (0.22, 0.12, 0.022 * wide)))


def _draw_dots(rng: np.random.Generator, count: int, size: tuple[float, float]) -> tuple[_Blob, ...]:
    dots = []
    for _ in range(count):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.6)
        radius = rng.uniform(*size)
        centre = (rng.uniform(-0.6, 0.7), 0.8 * reach * np.sin(angle), 0.65 * reach * np.cos(angle))
        # Slices lie further apart than pixels: a dot must be seen in at least one.
        dots.append(_Blob(centre, (max(radius, 0.05), radius, radius)))
    return tuple(dots)


def _draw_tumour(rng: np.random.Generator) -> _Blob:
    side = rng.choice([-1.0, 1.0])
    centre = (rng.uniform(-0.25, 0.45), rng.uniform(-0.42, 0.42), side * rng.uniform(0.16, 0.36))
    return _Blob(centre, (rng.uniform(0.17, 0.34), rng.uniform(0.13, 0.28), rng.uniform(0.11, 0.24)))


def _inside(distance: Floats, softness: float) -> Floats:
    """Partial volume: from 0 to 1 over `softness` around distance 0, axes (H, W)."""
    return np.asarray(np.clip(distance / softness + 0.5, 0, 1))


class _Canvas:
    """Light of one slice, axes (3, H, W), painted tissue over tissue."""

    def __init__(self, scene: _Scene) -> None:
        self.light: Floats = np.zeros((_SEQUENCES, *scene.x.shape))
        self._tissue = scene.tissue

    def paint(self, name: str, share: Floats) -> None:
        """Let the tissue take its share, 0 to 1, axes (H, W), of each pixel."""
        for plane, value in zip(self.light, self._tissue[name], strict=True):
            plane += share * (value - plane)


def _render(scene: _Scene, z: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Light of one slice, axes (H, W, 3), and where the tumour is, axes (H, W)."""
    canvas = _Canvas(scene)
    field = {name: noise.at(z) for name, noise in scene.noise.items()}
    brain = _paint_head(canvas, scene, z, field)
    _paint_distractors(canvas, scene, z, brain)
    tumour = _paint_tumour(canvas, scene, z, brain, field)
    canvas.light *= 1 + 0.035 * field["texture"]
    for plane, bias in zip(canvas.light, scene.bias, strict=True):
        plane *= np.exp(0.1 * bias.at(z))
    return np.moveaxis(canvas.light, 0, -1), tumour


def _paint_head(canvas: _Canvas, scene: _Scene, z: float, field: dict[str, Floats]) -> Floats:
    """Paint scalp to white matter; return the brain's share of each pixel."""
    depth = 1.0 - scene.head.radius(z, scene.y, scene.x) * (1 + 0.018 * field["surface"])
    brain = _inside(depth - 0.13, 0.03)
    canvas.paint("scalp", _inside(depth, 0.03))
    canvas.paint("skull", _inside(depth - 0.055, 0.03))
    canvas.paint("csf", brain)
    # Sulci are where the folding field is near zero, close to the surface; white matter keeps away from them.
    sulcus, gyrus = (np.exp(-((field["fold"] / width) ** 2)) for width in (0.16, 0.5))
    canvas.paint("grey", brain * _inside(depth - 0.15 - 0.16 * sulcus, 0.04))
    canvas.paint("white", brain * _inside(depth - 0.19 - 0.17 * gyrus, 0.04))
    falx = np.exp(-((scene.x / 0.008) ** 2)) * _inside(np.fabs(scene.y) - 0.35, 0.1)
    canvas.paint("csf", 0.8 * brain * falx)
    return brain


def _paint_distractors(canvas: _Canvas, scene: _Scene, z: float, brain: Floats) -> None:
    """Paint ventricles with FLAIR-bright caps, FLAIR-bright spots, and vessels bright after contrast."""
    y, x = scene.y, scene.x
    ventricle: Floats = np.min([blob.radius(z, y, x) for blob in scene.ventricles], axis=0)
    towards_the_ends = np.clip(np.abs(y) / 0.3 - 0.3, 0, 1)
    canvas.paint("cap", brain * _inside(1.5 - ventricle, 0.4) * towards_the_ends)
    canvas.paint("csf", brain * _inside(1 - ventricle, 0.25))
    for name, dots in (("spot", scene.spots), ("vessel", scene.vessels)):
        for dot in dots:
            if abs(z - dot.centre[0]) < dot.axes[0]:
                canvas.paint(name, brain * _inside(1 - dot.radius(z, y, x), 0.5))


def _paint_tumour(
    canvas: _Canvas, scene: _Scene, z: float, brain: Floats, field: dict[str, Floats]
) -> npt.NDArray[np.bool_]:
    """Paint the tumour, its cyst and its enhancing part; return where it is, axes (H, W)."""
    radius = scene.tumour.radius(z, scene.y, scene.x) * (1 + 0.2 * field["edge"])
    share = brain * _inside(1.0 - radius, 0.25)
    canvas.paint("tumour", share * (0.92 + 0.08 * np.tanh(field["texture"])))
    if scene.cystic:
        canvas.paint("cyst", share * _inside(0.45 - radius, 0.2))
    if scene.enhancing:
        glow = share * _inside(0.75 - radius, 0.2) * _inside(field["enhance"] - 0.2, 0.4)
        canvas.light[_POST] += 0.5 * glow
    return np.asarray(share > 0.5)
