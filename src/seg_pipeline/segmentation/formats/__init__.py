"""Data that others keep in forms of their own -> the two tables that the chain starts from.

- annotations: image_id, class, mask (run lengths, row-major, starts from 1; missing: no mask), one row for
  each mask, and for an image without any one row of the class ``NO_CLASS``;
- images: image_id, path, file, group, series, frame and what else is known, one row an image.

Both may have a column ``problem``: why what the row stands for cannot be used. The chain turns each into a
finding, so that one broken file does not stop the others.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"nnunet": ["write_nnunet"]})
