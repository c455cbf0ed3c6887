"""Pages that open in any browser: one file each, which asks no network for anything."""

from seg_pipeline.segmentation.report.findings import findings_page

__all__ = ["findings_page"]
