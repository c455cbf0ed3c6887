from matplotlib.figure import Figure

from seg_pipeline.datasets.figure import LiveFigureDataset


def test_only_another_figure_is_saved_again(tmp_path):
    file = tmp_path / "curves.png"
    dataset, first, second = LiveFigureDataset(filepath=str(file)), Figure(), Figure()
    dataset.save(first)
    assert file.read_bytes()[:4] == b"\x89PNG"
    file.unlink()
    dataset.save(first)
    assert not file.exists()
    dataset.save(second)
    assert file.exists()
