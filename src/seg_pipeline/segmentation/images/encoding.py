"""Write arrays as image files."""

from pathlib import Path

import cv2
import numpy as np


def write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 or uint16 pixels, (H, W) or (H, W, 3) in the order red, green, blue.

    Python writes the file: ``cv2.imwrite`` cannot open names beyond ASCII on Windows, and does not say why it fails.
    """
    path.write_bytes(cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1].tobytes())
