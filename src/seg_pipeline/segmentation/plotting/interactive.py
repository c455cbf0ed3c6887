"""Interactive figures (Plotly): hover over a point to see which image it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from seg_pipeline.segmentation.settings.figures import CURRENT

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SPLIT_LOOK = {"train": ("#0072B2", "circle"), "val": ("#E69F00", "diamond"), "test": ("#009E73", "x")}


def plot_point_chart(points: pd.DataFrame, *, title: str) -> Figure:
    """Annotated area against number of objects: one point per image, named on hover.

    ``points`` has the columns image_id, group, series, frame, split, height, width, area (percent of the
    image) and objects.
    """
    import plotly.graph_objects as go  # 0.5 s, which no other figure needs

    figure = go.Figure()
    for split, rows in points.groupby("split", sort=False):
        colour, symbol = SPLIT_LOOK.get(str(split), ("#666666", "square"))
        figure.add_scatter(
            x=rows["area"].tolist(),
            y=rows["objects"].tolist(),
            name=f"{split} ({len(rows):,})",
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.7},
            customdata=rows[["image_id", "group", "series", "frame", "height", "width"]]
            .to_numpy(dtype=object)
            .tolist(),
            hovertemplate=(
                "<b>%{customdata[0]}</b><br>group %{customdata[1]}, series %{customdata[2]}, "
                "frame %{customdata[3]}<br>%{customdata[4]} x %{customdata[5]} (height x width)<br>"
                "%{x:.2f} % annotated, %{y} objects<extra></extra>"
            ),
        )
    figure.update_layout(
        template="plotly_white",
        font={"size": CURRENT.font_size * 4 / 3},  # points to pixels, Plotly's unit
        title={"text": title},
        xaxis={"title": {"text": "annotated area (% of the image, summed over classes)"}},
        yaxis={"title": {"text": "objects (connected components)"}},
        legend={"title": {"text": "split (images)"}},
    )
    return figure
