"""The report, data set, findings and search pages, each one HTML file that needs no network; and the model card."""

from seg_pipeline.segmentation.report.agreement import agreement_page
from seg_pipeline.segmentation.report.data_set import data_set_page
from seg_pipeline.segmentation.report.findings import findings_page
from seg_pipeline.segmentation.report.model_card import model_card
from seg_pipeline.segmentation.report.results import Results
from seg_pipeline.segmentation.report.run_report import report_page
from seg_pipeline.segmentation.report.search import search_page
from seg_pipeline.segmentation.report.selection import selection_page

__all__ = [
    "Results",
    "agreement_page",
    "data_set_page",
    "findings_page",
    "model_card",
    "report_page",
    "search_page",
    "selection_page",
]
