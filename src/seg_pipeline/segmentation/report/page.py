"""What all pages share: templates, style, pictures, and a policy that forbids every request.

A page is a template here that extends ``base.html``. Style attributes would be refused by the policy: use classes.
``page.js`` sorts and filters the table of each element with ``data-list``, or that of a page without any:

- ``<tr data-row data-NAME="a|b">`` in its body is a row with the values a and b of NAME;
- a field with ``data-filter="NAME"`` keeps the rows with its value, one with ``data-filter=""`` those with its text;
- ``<th data-sort="text">`` or "number" becomes a button that sorts; ``data-value`` of a cell goes before its text;
- ``<select data-order>`` offers the same orders where a narrow screen hides the head;
- ``<output data-count>`` tells how many rows are shown;
- ``<a href="#ID" data-choose="VALUE" data-of="NAME">`` sets the filter NAME of the list ID, and empties the others.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path

import cv2
import jinja2
import numpy as np
from markupsafe import Markup, escape
from PIL import Image

CHART_COLOURS = 96
"""Of an embedded chart, whose file they make a third as large."""
FOLDER = Path(__file__).parent / "templates"
QUALITY = 82
"""Of the JPEG pictures: about 10 kB at 256 pixels."""


def render(template: str, **values: object) -> str:
    """HTML of a template; all values are escaped."""
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marked"] = _marked
    return environment.get_template(template).render(
        style=style, script=script, policy=_policy(style, script), **values
    )


def _marked(text: str) -> Markup:
    """`code` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def swatch(colour: np.ndarray) -> str:
    """Data address of a patch of one colour, uint8 (3,), for a legend."""
    return picture(np.full((12, 12, 3), colour, dtype=np.uint8))


def _policy(style: str, script: str) -> str:
    """Content security policy: this style, this script, pictures within the file, and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; "
        f"script-src 'sha256-{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def picture(image: np.ndarray, *, max_side: int = 256) -> str:
    """Data address of a JPEG of uint8 (H, W, 3), RGB, no side longer than ``max_side``."""
    scale = min(1.0, max_side / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    coded = cv2.imencode(".jpg", small[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1]
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()


def chart(png: bytes) -> str:
    """Data address of a figure, as PNG of few colours."""
    with Image.open(io.BytesIO(png)) as figure:
        coded = figure.convert("RGB").quantize(CHART_COLOURS, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    coded.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
