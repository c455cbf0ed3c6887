"""The report, data set, findings and search pages, each one HTML file that needs no network; and the model card."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(  # the findings page needs no torch, which takes 400 MB
    __name__,
    submod_attrs={
        "agreement": ["agreement_page"],
        "data_set": ["data_set_page"],
        "findings": ["findings_page"],
        "model_card": ["model_card"],
        "results": ["Results"],
        "run_report": ["report_page"],
        "search": ["search_page"],
        "selection": ["selection_page"],
    },
)
