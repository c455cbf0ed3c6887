from seg_pipeline.datasets.page import PageDataset


def test_a_page_is_shown_without_what_would_hold_for_all_of_kedro_viz(tmp_path):
    page = PageDataset(filepath=(tmp_path / "deep" / "report.html").as_posix())
    page.save(
        "<html><head><title>T</title></head><STYLE>body {color: red}</STYLE ><h1>Dice &gt; 0.9</h1><script>x</script>"
    )
    assert page.preview() == "<html><h1>Dice &gt; 0.9</h1>"
    assert page.load().startswith("<html><head>")
    assert page.preview.__annotations__["return"].__name__ == "HTMLPreview"  # by which Kedro-Viz knows how to show it


def test_markdown_is_left_to_kedro_viz(tmp_path):
    page = PageDataset(filepath=(tmp_path / "card.md").as_posix())
    page.save("# Card\n\nDice < 1")
    assert page.preview() == "# Card\n\nDice < 1"
