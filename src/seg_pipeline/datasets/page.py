"""Catalog entry for a page that people open: HTML for a browser, Markdown."""

import re

from kedro_datasets._typing import HTMLPreview

from seg_pipeline.datasets.atomic import TextDataset

NOT_SHOWN = re.compile(r"<(head|script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)


class PageDataset(TextDataset):
    """Like TextDataset, with a preview in Kedro-Viz."""

    def preview(self) -> HTMLPreview:
        """The page without its styles and scripts, which would apply to all of Kedro-Viz; it renders Markdown."""
        return HTMLPreview(NOT_SHOWN.sub("", self.load()))
