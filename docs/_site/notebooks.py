"""Run the notebooks on this checkout's results and write docs/notebooks/, the pages that show them with small outputs.

    python docs/_site/notebooks.py [01_explore_data ...]

It needs what the notebooks need: `kedro run`, and for the last one a second run. Share images of your own data only
where you may: the pages in git show the embedded sample.
"""

import base64
import io
import math
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from PIL import Image, ImageSequence

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WIDTH, AREA = 900, 320_000
"""Pixels that a picture may have, in width and in all."""
COLOURS = 48
FRAMES = 6
FORMS = ("application/vnd.plotly.v1+json", "image/gif", "image/png", "text/markdown", "text/html", "text/plain")
"""Of the forms of an output, the first is shown."""
HEAD = "\n\n*What [{name}](../../notebooks/{name}) shows for the embedded sample. Open it with `make jupyter`.*"


def linked(markdown: str) -> str:
    """Text of a notebook with its links as seen from docs/notebooks/."""
    return markdown.replace("](../docs/", "](../")


def without_folders(text: str) -> str:
    """A text without the folders of this machine."""
    return re.sub(r"/tmp/tmp\w+/|/(?:[\w.-]+/)+(?=data/)", "", text)


def small(picture: bytes) -> tuple[str, bytes]:
    """A picture as a small file, and its ending."""
    with Image.open(io.BytesIO(picture)) as opened:
        frames = [one.convert("RGB") for one in ImageSequence.Iterator(opened)]
    ratio = frames[0].height / frames[0].width
    width = min(WIDTH if len(frames) == 1 else WIDTH // 5, frames[0].width, math.isqrt(round(AREA / ratio)))
    size = (width, round(width * ratio))
    frames = [one.resize(size, Image.Resampling.LANCZOS) for one in frames[: FRAMES if len(frames) > 1 else 1]]
    few = [one.quantize(COLOURS, dither=Image.Dither.NONE) for one in frames]
    if len(few) > 1:
        stream = io.BytesIO()
        few[0].save(stream, "GIF", save_all=True, append_images=few[1:], duration=400, loop=0)
        return "gif", stream.getvalue()
    chart, photo = io.BytesIO(), io.BytesIO()
    few[0].save(chart, "PNG", optimize=True)
    frames[0].save(photo, "JPEG", quality=70, optimize=True)
    return min(("png", chart.getvalue()), ("jpg", photo.getvalue()), key=lambda one: len(one[1]))


def saved(picture: bytes, name: str) -> str:
    """Link to a picture: to the gallery's if the run wrote it too, else to a small copy that is written here."""
    for file in (ROOT / "data/08_reporting").glob("*.png"):
        shown = [*DOCS.glob(f"images/*/{file.stem}.*")]
        if shown and file.read_bytes() == picture:
            return f"../{shown[0].relative_to(DOCS).as_posix()}"
    ending, content = small(picture)
    file = DOCS / "images/notebooks" / f"{name}.{ending}"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return f"../{file.relative_to(DOCS).as_posix()}"


def shown(output: nbformat.NotebookNode, name: str, title: str) -> nbformat.NotebookNode | None:
    """An output in the one form that a page shows; None if it shows none."""
    if output.output_type == "stream":
        output.text = without_folders(output.text)
        return output if output.name == "stdout" else None
    form = next(one for one in FORMS if one in output.data)
    text = re.sub(r"\x1b(\[[\d;]*m|\]8;[^\\]*\\)", "", output.data.get("text/plain", "")).strip()
    value = text if form == "text/plain" else output.data[form]
    if form.startswith("application/"):
        form, value = "text/markdown", "*An interactive chart; open the notebook to use it.*"
    elif form.startswith("image/"):
        form, value = "text/markdown", f"![{title}]({saved(base64.b64decode(value), name)})"
    elif "<table" in value:
        value = re.sub(r"<style.*?</style>\n?| (?:border|class|style)=\"[^\"]*\"|^\s+", "", value, flags=re.S | re.M)
        value = without_folders(value.replace(">\n<", "><"))
    elif form == "text/html" and "<pre" in value[:5]:  # of Kedro's console: a line of the log, or a value
        if re.search(r"\b(INFO|WARNING)\b", text):
            return None
        form, value = "text/plain", without_folders(text)
    elif form == "text/html":  # highlighted source
        form, value = "text/markdown", f"```python\n{text}\n```"
    return nbformat.v4.new_output(output.output_type, {form: value})


def write(name: str) -> None:
    """Run a notebook and write its page."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    notebook.cells[0].source += HEAD.format(name=f"{name}.ipynb")
    title, number = "", 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            title = next(iter(re.findall(r"^#+ (.+)$", cell.source, re.M)), title)
            cell.source = linked(cell.source)
            continue
        if cell.source.startswith("%"):
            cell.metadata["magics_language"] = "ipython"  # no Python that others could parse
        number += 1
        outputs = [shown(one, f"{name[:2]}_{number:02}_{place}", title) for place, one in enumerate(cell.outputs)]
        cell.outputs = [one for one in outputs if one is not None]
    body, _ = MarkdownExporter().from_notebook_node(notebook)
    (DOCS / "notebooks").mkdir(exist_ok=True)
    tidy = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", f"{body.strip()}\n", flags=re.M))
    (DOCS / "notebooks" / f"{name}.md").write_text(tidy, encoding="utf-8")


if __name__ == "__main__":
    for one in sys.argv[1:] or sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")):
        write(one)
