"""Catalog entry for a page that people open: HTML for a browser, Markdown."""

from __future__ import annotations

import html
import re
from pathlib import Path

from kedro_datasets._typing import HTMLPreview
from kedro_datasets.text import TextDataset

NOT_SHOWN = re.compile(r"<(head|script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)


class PageDataset(TextDataset):
    """As TextDataset, and Kedro-Viz shows it.

    ```yaml
    report:
      type: seg_pipeline.datasets.page.PageDataset
      filepath: data/08_reporting/report.html
    ```
    """

    def preview(self) -> HTMLPreview:
        """Without the page's own styles, which would hold for all of Kedro-Viz; Markdown as it is written."""
        text = self.load()
        if Path(self._filepath).suffix == ".html":
            return HTMLPreview(NOT_SHOWN.sub("", text))
        return HTMLPreview(f'<pre style="white-space: pre-wrap">{html.escape(text)}</pre>')
