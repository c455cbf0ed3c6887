import pathlib
from seg_pipeline.segmentation.report import model_card, report_page
ABOUT = {"data": None,"source": None,"truth": None,"truth_is_model_output": False,"intended_use": None,"limits": []}
def test_it(results):
    html=report_page(results, ABOUT, phantom=True, num_gallery=3, other=None, seed=0)
    pathlib.Path('/tmp/rep/report.html').write_text(html)
    pathlib.Path('/tmp/rep/card.md').write_text(model_card(results, ABOUT, phantom=True))
