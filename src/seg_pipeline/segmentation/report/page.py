"""Render HTML pages: templates, embedded images, and a content security policy that forbids every request.

A page is a template that extends ``base.html``. The policy refuses style attributes: use CSS classes.
``page.js`` sorts and filters the table in each element with ``data-list``; without any, the page is one list:

- ``<tr data-row data-NAME="a|b">`` in its body is a row with the values a and b of NAME;
- ``data-filter="NAME"`` on a field keeps the rows with that value; ``data-filter=""``, the rows with that text;
- ``<th data-sort="text">`` or "number" becomes a sort button; a cell's ``data-value`` overrides its text;
- ``<select data-order>`` offers the same orders on narrow screens, which hide the table's head;
- ``<output data-count>`` shows how many rows are visible;
- ``data-most="NAME"`` on a number field keeps the rows whose value of NAME is at most that;
- ``<a href="#ID" data-choose="VALUE" data-of="NAME">`` sets the filter NAME of the list ID and clears the others.

``viewer.js`` enlarges figures in ``.charts``, ``.plots`` and ``.pictures``, and rows with ``data-picture="ID"``.
``chart.js`` draws the data in ``<script data-chart>`` (charts.py) in place of the static figure.
Masks can be switched on and off if ``<script id="pictures">`` (pictures.py) has the ID in ``data-picture``.
"""

import base64
import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import jinja2
import numpy as np
from markupsafe import Markup, escape
from PIL import Image

CHART_COLOURS = 96
"""Colours of an embedded figure; this palette makes the file a third as large."""
CSS_DPI = 96
TALL = 800
HALF_PAGE = 750
"""Maximum width in CSS pixels of a figure on half of the page, where it is shrunk a little."""
FOLDER = Path(__file__).parent / "templates"
QUALITY = 82
"""JPEG quality: about 10 kB at 256 pixels."""


def render(template: str, **values: object) -> str:
    """Render a template as HTML; all values are escaped."""
    style, *scripts = (
        (FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "viewer.js", "chart.js")
    )
    script = "\n".join(scripts)
    values |= {"style": style, "script": script, "policy": _policy(style, script)}
    return environment(autoescape=True, marked=_mark_code).get_template(template).render(**values)


def environment(*, autoescape: bool, **filters: Callable[[str], str]) -> jinja2.Environment:
    """The Jinja environment of the templates in ``FOLDER``."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(filters)
    return templates


def _mark_code(text: str) -> Markup:
    """Escape a text and turn `code` in backticks into a code element."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def swatch(colour: np.ndarray) -> str:
    """Data URL of a single-colour patch for a legend; ``colour`` is uint8 (3,)."""
    return jpeg_url(np.full((12, 12, 3), colour, dtype=np.uint8))


def _policy(style: str, script: str) -> str:
    """Content security policy that allows this style, this script and embedded images, and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; "
        f"script-src 'sha256-{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def jpeg_url(image: np.ndarray, *, max_side: int = 256) -> str:
    """Data URL of an RGB image, uint8 (H, W, 3), as JPEG; its longer side is shrunk to at most ``max_side`` pixels."""
    scale = min(1.0, max_side / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", small[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


class EmbeddedFigure(NamedTuple):
    """A figure as a page shows it: a data URL, and its size in CSS pixels."""

    source: str
    width: int
    height: int

    @property
    def is_broad(self) -> bool:
        """Whether it needs more than half of a page, so that its text stays legible."""
        return self.width > HALF_PAGE

    @property
    def is_tall(self) -> bool:
        """Whether the report shows only the first rows of a contact sheet until it is enlarged."""
        return self.height > TALL


def embedded(name: str, file: bytes) -> EmbeddedFigure:
    """Embed a figure: GIF unchanged, contact sheets (which show images) as JPEG, all others as PNG with few colours.

    Dark pages invert PNG, which must therefore contain no images. The width follows from the width in inches, so that
    text keeps its size; at 192 dots per inch, a CSS pixel is two pixels wide.
    """
    if name.endswith("_gif"):
        with Image.open(io.BytesIO(file)) as animation:
            return EmbeddedFigure("data:image/gif;base64," + base64.b64encode(file).decode(), *animation.size)
    with Image.open(io.BytesIO(file)) as figure:
        dpi = figure.info.get("dpi", (CSS_DPI, CSS_DPI))[0]
        width, height = (round(CSS_DPI * side / dpi) for side in figure.size)
        colours = figure.convert("RGB")
    stream, kind = io.BytesIO(), "jpeg" if name.endswith("_sheet") else "png"
    if kind == "jpeg":
        colours.save(stream, "JPEG", quality=QUALITY)
    else:
        colours.quantize(CHART_COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return EmbeddedFigure(f"data:image/{kind};base64," + base64.b64encode(stream.getvalue()).decode(), width, height)
