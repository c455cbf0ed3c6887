"""The documentation: the site builds, links work, and every command runs or says what it needs.

Above each fenced block of shell commands stands ``<!-- run -->``, ``<!-- run: slow -->`` or ``<!-- needs: WHAT -->``.
Blocks that run do so in a copy of this checkout, those of one page one after another. Below ``<!-- output -->`` stands
text that the command before it must have printed, apart from numbers. Python blocks are parsed, or run if they say so;
YAML blocks are parsed.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
COMMANDS = {"", "bash", "console", "sh", "shell"}
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^>]+?) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    mark: str
    language: str
    text: str
    line: int


def blocks_of(text: str, *marks: str) -> list[Block]:
    """The fenced blocks, all or those with one of the marks."""
    found = [
        Block(one["mark"] or "", one["language"], one["text"], text[: one.start("text")].count("\n"))
        for one in BLOCK.finditer(text)
    ]
    return [one for one in found if not marks or one.mark in marks]


def faults(block: Block) -> str:
    """What is wrong with a block; "" if nothing is."""
    if block.language in COMMANDS and not re.fullmatch(r"run(: slow)?|needs: .+", block.mark):
        return "needs a line above: <!-- run -->, <!-- run: slow --> or <!-- needs: WHAT -->; or ```text"
    try:
        if block.language == "python":
            ast.parse(block.text)
        if block.language in ("yaml", "yml"):
            yaml.safe_load(block.text)
    except (SyntaxError, yaml.YAMLError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_block_runs_or_says_what_it_needs(page):
    found = {f"line {one.line}": fault for one in blocks_of(page.read_text()) if (fault := faults(one))}
    assert not found


def test_an_unmarked_command_and_broken_code_are_reported():
    told = [
        faults(one) for one in blocks_of("```\nls\n```\n\n```python\nx = (\n```\n\n<!-- run -->\n```bash\nls\n```\n")
    ]
    assert [bool(one) for one in told] == [True, True, False]
    assert "<!-- needs: WHAT -->" in told[0]


def in_numbers(text: str) -> list[str]:
    """Lines without what differs between runs: numbers, and the space around them."""
    return [re.sub(r"\s+", " ", re.sub(r"\d+", "#", line)).strip() for line in text.splitlines()]


@pytest.fixture
def shell(in_clone, warm) -> Callable[[Block, Path], tuple[int, str]]:
    """Runs a block in a clone: exit status and output. Our commands, Kedro's and Python's have all packages loaded."""

    def run(block: Block, clone: Path) -> tuple[int, str]:
        if block.language == "python":
            ended = in_clone.run([sys.executable, "-c", block.text], clone)
            return ended.returncode, ended.stdout + ended.stderr
        lines = block.text.splitlines()
        if not all(line.startswith(("kedro ", "seg-pipeline ", "python -c ")) for line in lines):
            ended = in_clone.run(["bash", "-euo", "pipefail", "-c", block.text], clone)
            return ended.returncode, ended.stdout + ended.stderr
        printed = ""
        for line in lines:
            program, *argv = shlex.split(line, comments=True)
            status, output = warm.run(*argv, program=program, cwd=str(clone), powers=True)
            printed += output
            if status:
                return status, printed
        return 0, printed

    return run


def run_page(page: Path, shell, clone: Path, *, slow: bool, known: dict[str, str] | None = None) -> int:
    """Run the blocks of a page in order, each of which must exit with 0; their number.

    Of the commands in ``known``, which another test has run, only the output is taken. Three epochs are made one.
    """
    printed, number = "", 0
    for block in blocks_of(page.read_text()):
        if block.mark == "output":
            missing = [line for line in in_numbers(block.text) if line not in in_numbers(printed)]
            assert not (printed and missing), f"{page.name}, line {block.line}: {missing} not in\n{printed}"
        if block.mark != "run" and not (slow and block.mark == "run: slow"):
            continue
        number += 1
        if block.text in (known or {}):
            printed = known.pop(block.text)
            continue
        status, printed = shell(block._replace(text=block.text.replace("epochs=3", "epochs=1")), clone)
        assert status == 0, f"{page.name}, line {block.line}:\n{printed[-5000:]}"
    assert not known, f"{page.name} has no block {list(known)}"
    return number


def pages_with(mark: str) -> list[Path]:
    return [page for page in PAGES if blocks_of(page.read_text(), mark)]


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("run"), ids=lambda path: path.name)
def test_the_quick_commands_of_a_page_run(page, tmp_path, in_clone, shell):
    assert run_page(page, shell, in_clone.copy(tmp_path), slow=False) == len(blocks_of(page.read_text(), "run"))


@pytest.mark.slow
@pytest.mark.timeout(900)  # the tutorial trains twice
@pytest.mark.parametrize("page", pages_with("run: slow"), ids=lambda path: path.name)
def test_all_commands_of_a_page_run_in_a_fresh_clone(page, tmp_path, in_clone, shell, request):
    known = {}
    if page.name == "first_hour.md":
        smoke = request.getfixturevalue("smoke_run")
        assert smoke.process.returncode == 0, smoke.process.stderr[-3000:]
        known = {smoke.command.replace("tracking.log_model", "tracking.enabled") + "\n": smoke.process.stdout}
    marked = blocks_of(page.read_text(), "run", "run: slow")
    assert run_page(page, shell, in_clone.copy(tmp_path), slow=True, known=known) == len(marked)


LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "conf" / "README.md", *sorted(ROOT.glob("notebooks/*.ipynb"))]


def text_of(page: Path) -> str:
    """Markdown of a page or of a notebook's text cells."""
    if page.suffix != ".ipynb":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(one["source"]) for one in cells if one["cell_type"] == "markdown")


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text_of(page)), re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", one).strip().lower()) for one in headings}


def broken_links(page: Path) -> list[str]:
    """Links of a page to a file or a heading that does not exist."""
    broken = []
    for link in LINK.findall(FENCED.sub("", text_of(page))):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        outside = re.match(r"[a-z]+:", link)
        if not outside and not (target.exists() and (not anchor or anchor in anchors_of(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", LINKED, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings_that_exist(page):
    assert not broken_links(page)


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A heading\n[1](#a-heading) [2](#no) [3](none.md) [4](page.md#a-heading) [5](https://x.org)\n")
    assert broken_links(page) == ["#no", "none.md"]


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r"<(?:link|script|img|iframe)[^>]+(?:href|src)=\"?(https?:[^\" >]+)", page.read_text())
        assert not fetched, f"{page.name}: {fetched}"
    assert not re.findall(r"url\(\"?https?:", "".join(one.read_text() for one in tmp_path.rglob("*.css")))
    assert "<title>seg_pipeline: from images and masks to a scored model" in (tmp_path / "index.html").read_text()
    assert results_in(tmp_path / "reference" / "report.html", "confusion") > 2


def results_in(page: Path, word: str) -> int:
    """How many results the search of a page that is opened from its folder shows."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("no Chromium on this machine")
    with (
        sync_api.sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]) as browser,
    ):
        opened = browser.new_page()
        opened.goto(page.as_uri())
        opened.locator(".md-search__input").fill(word)
        opened.locator(".md-search-result__link").first.wait_for(state="attached")
        return opened.locator(".md-search-result__link").count()


def test_the_gallery_shows_every_figure_of_the_catalog():
    named = re.findall(r"_reporting/(\w+)\.png", (ROOT / "conf" / "base" / "catalog.yml").read_text())
    shown = re.findall(r"`(\w+)\.png`$", (ROOT / "docs" / "reference" / "gallery.md").read_text(), re.M)
    assert set(named) - set(shown) == {"overfit_sheet", "search_importances", "validation_sheet"}  # like others
    assert set(shown) <= set(named)
