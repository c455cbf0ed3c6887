"""Draw frames of the phantom: outlines cut at a height z, filled, textured, blurred, with gain drift and noise.

Axes: P parts, K harmonics, N corners of an outline, H rows, W columns.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from seg_pipeline.segmentation.phantom.anatomy import CLASSES, PARTS, TISSUES, Layer

# Effect of one unit of deviation: added to lengths and positions, a factor for radii.
_SPREAD = {
    "x": 0.035,
    "y": 0.028,
    "slope_x": 0.10,
    "slope_y": 0.06,
    "rx": 0.10,
    "ry": 0.10,
    "turn": 0.18,
    "top": 0.012,
    "bottom": 0.012,
    "level": 0.3,
}
_HARMONICS = np.arange(2, 6)
_ANGLES = np.linspace(0, 2 * math.pi, 40, endpoint=False)
_WAVES_KN = np.exp(1j * np.outer(_HARMONICS, _ANGLES))
_CIRCLE_N2 = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Series:
    """What the frames of one scan have in common."""

    shape: tuple[int, int]
    seed: tuple[int, ...]
    form: dict[str, np.ndarray]
    """(P,) each: the keys of ``_SPREAD``, deviations included."""
    harmonics_PK: np.ndarray
    """Complex: amplitude and phase of each outline's deviation from its ellipse."""
    drift_PK: np.ndarray
    """Radians by which a harmonic turns per unit of z."""
    tissues: dict[str, tuple[float, float]]
    grain: np.ndarray
    """Two coarse noise fields (2, h, w), mixed in proportions that turn along z."""
    gain_HW: np.ndarray
    pixels_per_unit: np.ndarray
    origin: np.ndarray
    noise: float
    overlaps: bool


def make_series(seed: int, case: int, day: int, shape: tuple[int, int], *, overlaps: bool) -> Series:
    """The scan of ``case`` on ``day`` in frames of ``shape`` (H, W).

    With ``overlaps`` the masks of two classes may share pixels; otherwise they belong to the organ in front.
    """
    case_rng, day_rng = np.random.default_rng([seed, case]), np.random.default_rng([seed, case, day])
    height, width = shape
    jitter, mobility = (np.array([getattr(part, name) for part in PARTS]) for name in ("jitter", "mobility"))
    deviation = jitter * (_deviations(case_rng) + mobility * _deviations(day_rng))  # (columns, P)
    form = _deviated_form(deviation[: len(_SPREAD)], case_rng.uniform(-0.025, 0.025))
    real, imag, drift = deviation[len(_SPREAD) :].reshape(3, len(_HARMONICS), len(PARTS))
    return Series(
        shape=shape,
        seed=(seed, case, day),
        form=form,
        harmonics_PK=(0.10 * (real + 1j * imag) / _HARMONICS[:, None]).T,
        drift_PK=2.0 * drift.T,
        tissues={
            name: (signal * math.exp(case_rng.normal(0, 0.07)), texture) for name, (signal, texture) in TISSUES.items()
        },
        grain=day_rng.standard_normal((2, 46 * height // width, 46), dtype=np.float32),
        gain_HW=_gain(shape, math.exp(case_rng.uniform(math.log(2500), math.log(11000))), day_rng),
        pixels_per_unit=min(width / 2.85, height / 2.25) * case_rng.uniform((0.93, 0.84), (1.04, 1.02)),
        origin=(np.array([width, height]) - 1) / 2 + day_rng.uniform(-0.015, 0.015, 2) * width,
        noise=case_rng.uniform(0.012, 0.028),
        overlaps=overlaps,
    )


def _deviations(rng: np.random.Generator) -> np.ndarray:
    """Normal numbers (columns, P) without far outliers, so that no part leaves its place."""
    shape = (len(_SPREAD) + 3 * len(_HARMONICS), len(PARTS))
    return np.clip(rng.standard_normal(shape), -1.6, 1.6)


def _deviated_form(deviations: np.ndarray, shift: float) -> dict[str, np.ndarray]:
    form = {name: _SPREAD[name] * row for name, row in zip(_SPREAD, deviations, strict=True)}
    for name in ("x", "y", "turn", "top", "bottom"):
        form[name] += [getattr(part, name) for part in PARTS]
    for name in ("rx", "ry"):
        form[name] = np.exp(form[name]) * [getattr(part, name) for part in PARTS]
    form["level"] -= 0.35  # a little gas above a lot of content
    form["top"] += shift  # the whole patient lies a little higher or lower in the scanner
    form["bottom"] += shift
    return form


def _gain(shape: tuple[int, int], peak: float, rng: np.random.Generator) -> np.ndarray:
    """The receive coil's smooth drift over the image, (H, W), around ``peak``."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    tilt_x, tilt_y, bowl = rng.uniform((-0.16, -0.16, 0.0), (0.16, 0.16, 0.2)).astype(np.float32)
    return np.float32(peak * rng.uniform(0.93, 1.07)) * (1 + tilt_x * x + tilt_y * y + bowl * (x * x + y * y - 0.5))


def draw_frame(series: Series, frame: int, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W) uint16 and masks (C, H, W) bool of ``frame``, 0 to ``num_frames`` - 1, head to feet."""
    z = (frame + 0.5) / num_frames
    signal = np.zeros((*series.shape, 2), dtype=np.float32)
    masks = np.zeros((len(CLASSES), *series.shape), dtype=np.uint8)
    outlines = _outlines(series, z)
    for index in np.flatnonzero((series.form["top"] <= z) & (z <= series.form["bottom"])):
        part, outline = PARTS[index], outlines[index]
        for layer in part.layers:
            _fill_layer(signal, outline, layer, series, series.form["level"][index])
        if part.organ:
            _add_to_masks(masks, outline, CLASSES.index(part.organ), overlaps=series.overlaps)
    return _scan(series, signal, z, np.random.default_rng([*series.seed, frame])), masks.astype(bool)


def _outlines(series: Series, z: float) -> np.ndarray:
    """Corners of every part in pixels, (P, N, 2) as x, y, including parts that do not reach ``z``."""
    form = series.form
    along = np.clip((z - form["top"]) / (form["bottom"] - form["top"]), 0, 1)
    taper = 0.75 + 0.25 * np.sin(math.pi * along)  # blunt ends, so that no organ thins out to a few pixels
    turning_PK = series.harmonics_PK * np.exp(1j * series.drift_PK * z)
    radius_PN = taper[:, None] * (1 + (turning_PK @ _WAVES_KN).real)
    xy_PN2 = radius_PN[:, :, None] * _CIRCLE_N2 * np.stack([form["rx"], form["ry"]], axis=-1)[:, None]
    cos, sin = np.cos(form["turn"]), np.sin(form["turn"])
    turn_P22 = np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2)
    centre_P2 = np.stack([form["x"], form["y"]], axis=-1)
    slope_P2 = np.stack([form["slope_x"], form["slope_y"]], axis=-1)
    placed = xy_PN2 @ turn_P22 + (centre_P2 + (z - 0.5) * slope_P2)[:, None]
    return placed * series.pixels_per_unit + series.origin


def _fill_layer(signal: np.ndarray, outline: np.ndarray, layer: Layer, series: Series, level: float) -> None:
    """``level``: where fluid ends, from -1 at the front of the outline to 1 at its back."""
    centre = outline.mean(axis=0)
    if layer.floats:
        surface = round(centre[1] + level * np.ptp(outline[:, 1]) / 2)
        signal = signal[: max(0, surface)]  # a view, so that filling stops at its last row
    _fill(signal, centre + layer.scale * (outline - centre), series.tissues[layer.tissue])


def _fill(canvas: np.ndarray, corners: np.ndarray, value: tuple[float, ...]) -> None:
    """Fill a polygon in place; its corners (N, 2) are rounded to a sixteenth of a pixel."""
    fixed_point = np.round(corners * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed_point], value, shift=_SUBPIXEL_BITS)


def _add_to_masks(masks: np.ndarray, outline: np.ndarray, organ: int, *, overlaps: bool) -> None:
    """Add ``outline`` to one mask and, without ``overlaps``, remove it from the organs behind."""
    for other in range(len(masks)):
        if other == organ or not overlaps:
            _fill(masks[other], outline, (int(other == organ),))


def _scan(series: Series, signal: np.ndarray, z: float, rng: np.random.Generator) -> np.ndarray:
    """Turn brightness and texture (H, W, 2) into uint16 intensities: grain, blur, gain, noise."""
    height, width = series.shape
    grain = math.cos(12 * z) * series.grain[0] + math.sin(12 * z) * series.grain[1]
    texture = cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
    image = cv2.GaussianBlur(signal[..., 0] * (1 + signal[..., 1] * texture), (0, 0), 0.005 * width)
    image += np.float32(series.noise) * rng.standard_normal(series.shape, dtype=np.float32)
    return np.clip(np.abs(image) * series.gain_HW, 0, 65535).astype(np.uint16)  # a magnitude, never negative
