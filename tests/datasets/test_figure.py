from matplotlib.figure import Figure

from seg_pipeline.datasets.figure import FigureDataset


def test_a_figure_loads_as_png_and_nothing_removes_it(tmp_path):
    dataset = FigureDataset(filepath=str(tmp_path / "reports" / "chart.png"))
    assert dataset.load() is None
    dataset.save(())  # there was none before
    dataset.save(Figure(figsize=(1, 1)))
    assert dataset.load().startswith(b"\x89PNG")
    dataset.save(())
    assert dataset.load() is None
    assert not dataset.exists()
