"""Catalog entry for HTML and Markdown pages."""

import re

from kedro_datasets._typing import HTMLPreview

from seg_pipeline.datasets.atomic import TextDataset

NOT_SHOWN = re.compile(r"<(head|script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)


class PageDataset(TextDataset):
    """Like TextDataset, with a preview in Kedro-Viz."""

    def preview(self) -> HTMLPreview:
        """The page without styles and scripts, which would affect all of Kedro-Viz; Kedro-Viz renders Markdown."""
        return HTMLPreview(NOT_SHOWN.sub("", self.load()))
