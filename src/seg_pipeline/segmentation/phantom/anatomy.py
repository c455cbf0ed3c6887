"""The phantom's tissues and soft bodies, through which a frame cuts, from back to front.

Lengths are in units of half the abdominal cavity's width; x runs to the image's right (the patient's left),
y to the back, z from 0 at the diaphragm to 1 at the hips.
"""

from typing import NamedTuple

CLASSES = ("large_bowel", "small_bowel", "stomach")

# Brightness of a tissue, 1 being the brightest, and how strongly texture modulates it. As in a balanced
# gradient echo: fluid and fat bright, muscle and liver dark, dense bone and gas black.
TISSUES = {
    "skin": (0.45, 0.05),
    "fat": (0.74, 0.05),
    "muscle": (0.30, 0.12),
    "mesentery": (0.62, 0.10),
    "lung": (0.06, 0.30),
    "heart": (0.58, 0.15),
    "liver": (0.37, 0.08),
    "spleen": (0.50, 0.06),
    "kidney": (0.45, 0.08),
    "fluid": (0.95, 0.03),
    "vessel": (0.88, 0.05),
    "dense_bone": (0.10, 0.05),
    "marrow": (0.52, 0.14),
    "wall": (0.20, 0.08),
    "gas": (0.03, 0.00),
    "stool": (0.40, 0.30),
    "chyme": (0.82, 0.26),
    "food": (0.54, 0.14),
}


class Layer(NamedTuple):
    """A tissue that fills a part's outline, shrunk to ``scale``; ``floats``: only above a fluid level."""

    tissue: str
    scale: float = 1.0
    floats: bool = False


class Part(NamedTuple):
    """One soft body. ``top`` and ``bottom`` bound it in z; ``turn`` is in radians."""

    layers: tuple[Layer, ...]
    x: float
    y: float
    rx: float
    ry: float
    top: float = -1.0
    bottom: float = 2.0
    turn: float = 0.0
    jitter: float = 1.0
    """How much it varies between cases, relative to other parts."""
    mobility: float = 0.3
    """How much it varies between days, relative to the variation between cases."""
    organ: str = ""
    """The class whose mask includes its outline; "" for unlabelled parts."""


def _single_layer(tissue: str) -> tuple[Layer, ...]:
    return (Layer(tissue),)


def _both_sides(part: Part) -> tuple[Part, Part]:
    return part, part._replace(x=-part.x, turn=-part.turn)


_BONE = (Layer("dense_bone"), Layer("marrow", 0.74))
_COLON = (Layer("wall"), Layer("stool", 0.74), Layer("gas", 0.74, floats=True))
_LOOP = (Layer("wall"), Layer("chyme", 0.8))
_STOMACH = (Layer("wall"), Layer("food", 0.86), Layer("gas", 0.86, floats=True))


def _colon(x: float, y: float, rx: float, ry: float, top: float, bottom: float, turn: float = 0.0) -> Part:
    return Part(_COLON, x, y, rx, ry, top, bottom, turn, mobility=0.8, organ="large_bowel")


def _loop(x: float, y: float, top: float, bottom: float, turn: float) -> Part:
    return Part(_LOOP, x, y, 0.18, 0.12, top, bottom, turn, mobility=0.9, organ="small_bowel")


_WALL = (
    Part((Layer("skin"), Layer("fat", 0.975)), 0, 0.02, 1.25, 0.965, jitter=0.25),
    Part((Layer("muscle"), Layer("mesentery", 0.90)), 0, 0.02, 1.09, 0.80, jitter=0.3),
)
_RIBS = tuple(
    rib
    for x, y, turn in ((1.00, 0.02, 1.5), (0.92, 0.33, 2.0), (0.70, 0.56, 2.5), (0.91, -0.31, 1.1))
    for rib in _both_sides(Part(_BONE, x, y, 0.085, 0.04, -1, 0.5, turn, jitter=0.5))
)
_UPPER = (
    *_both_sides(Part(_single_layer("lung"), 0.58, 0.05, 0.42, 0.56, -0.6, 0.17, 0.1, jitter=0.6)),
    Part((Layer("muscle"), Layer("heart", 0.9)), 0.12, -0.28, 0.38, 0.30, -0.6, 0.14, 0.4),
    Part(_single_layer("liver"), -0.50, -0.03, 0.44, 0.47, 0.02, 0.62, 0.15),
    Part(_single_layer("liver"), 0.02, -0.36, 0.36, 0.22, 0.04, 0.36, 0.1),
    Part((Layer("wall"), Layer("fluid", 0.8)), -0.30, -0.26, 0.12, 0.09, 0.36, 0.52, 0.8, mobility=0.6),
    Part(_single_layer("spleen"), 0.70, 0.20, 0.16, 0.27, 0.08, 0.42, -0.3),
)
_BACK = (
    *_both_sides(Part((Layer("kidney"), Layer("mesentery", 0.38)), 0.52, 0.36, 0.17, 0.23, 0.34, 0.64, -0.35)),
    *_both_sides(Part(_single_layer("muscle"), 0.30, 0.44, 0.14, 0.16, 0.30, 1.6, jitter=0.5)),
    *_both_sides(Part(_single_layer("muscle"), 0.30, 0.76, 0.27, 0.13, jitter=0.4)),
    *_both_sides(Part(_single_layer("dense_bone"), 0.17, 0.66, 0.17, 0.035, jitter=0.3, turn=0.15)),
    Part(_BONE, 0, 0.78, 0.055, 0.13, jitter=0.3),
    Part(_BONE, 0, 0.46, 0.22, 0.17, jitter=0.3),
    Part((Layer("dense_bone"), Layer("fluid", 0.7)), 0, 0.65, 0.10, 0.075, jitter=0.3),
    Part(_single_layer("vessel"), 0.06, 0.23, 0.065, 0.065, jitter=0.5),
    Part(_single_layer("vessel"), -0.15, 0.25, 0.085, 0.065, jitter=0.5),
)
_PELVIS = (
    *_both_sides(Part(_single_layer("muscle"), 0.66, 0.52, 0.36, 0.17, 0.66, 2.0, -0.6, jitter=0.4)),
    *_both_sides(Part(_BONE, 0.78, 0.16, 0.10, 0.44, 0.70, 1.5, -0.45, jitter=0.5)),
    *_both_sides(Part(_single_layer("muscle"), 0.56, 0.16, 0.13, 0.30, 0.70, 1.5, -0.4, jitter=0.5)),
    Part((Layer("wall"), Layer("fluid", 0.86)), 0, -0.12, 0.36, 0.26, 0.79, 1.3, mobility=1.0),
    Part((Layer("muscle"), Layer("spleen", 0.7)), 0.03, 0.20, 0.20, 0.11, 0.78, 1.3),
)
_MESENTERY = tuple(
    Part(_single_layer("vessel"), x, y, 0.03, 0.025, top, top + 0.5, jitter=2.0, mobility=1.0)
    for x, y, top in (
        (-0.2, 0.0, 0.2),
        (0.15, 0.06, 0.3),
        (0.3, 0.16, 0.35),
        (-0.36, 0.14, 0.4),
        (0.0, -0.1, 0.5),
    )
)
_ORGANS = (
    _colon(-0.72, 0.10, 0.17, 0.19, 0.36, 0.67),  # ascending
    _colon(0.74, 0.12, 0.14, 0.16, 0.35, 0.68),  # descending
    _colon(-0.36, -0.42, 0.28, 0.13, 0.37, 0.56, -0.2),  # transverse, in two pieces
    _colon(0.28, -0.45, 0.32, 0.12, 0.43, 0.60, 0.15),
    _colon(0.54, -0.22, 0.16, 0.16, 0.55, 0.68, 0.5),  # towards the sigmoid
    _loop(0.04, -0.20, 0.40, 0.69, 0.2),
    _loop(0.36, 0.02, 0.41, 0.67, 1.2),
    _loop(-0.28, -0.12, 0.43, 0.68, -0.7),
    _loop(-0.04, 0.04, 0.46, 0.69, 0.0),
    _loop(0.24, -0.20, 0.52, 0.68, -0.5),
    _loop(-0.34, 0.15, 0.50, 0.68, 0.9),
    _loop(0.44, 0.22, 0.53, 0.68, 0.4),
    Part(_STOMACH, 0.40, -0.20, 0.36, 0.24, 0.295, 0.485, 0.45, mobility=0.6, organ="stomach"),
)
PARTS = (*_WALL, *_RIBS, *_UPPER, *_BACK, *_PELVIS, *_MESENTERY, *_ORGANS)
