"""Pages that open in any browser: one file each, which asks no network for anything."""

from seg_pipeline.segmentation.report.findings import findings_page
from seg_pipeline.segmentation.report.search import figure_address, search_page

__all__ = ["figure_address", "findings_page", "search_page"]
