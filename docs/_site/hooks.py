"""Hooks of the documentation build: a complete navigation, and links that leave the site."""

import re
from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Drop missing pages from the navigation and list pages that it does not name under "More"."""
    folder = Path(config.docs_dir)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md") if "_site" not in path.parts}
    config.nav = kept(config.nav, present)
    if more := sorted(present - named(config.nav)):
        config.nav.append({"More": more})
    return config


def kept(nav: list, present: set[str]) -> list:
    """Navigation without the entries whose page is missing."""
    result = []
    for entry in nav:
        if isinstance(entry, str):
            result += [entry] * (entry in present)
            continue
        ((title, below),) = entry.items()
        if isinstance(below, list):
            result.append({title: kept(below, present)})
        elif below in present:
            result.append(entry)
    return result


def named(nav: list) -> set[str]:
    """Pages that a navigation names."""
    pages: set[str] = set()
    for entry in nav:
        below = entry if isinstance(entry, str) else next(iter(entry.values()))
        pages |= named(below) if isinstance(below, list) else {below}
    return pages


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace links to files outside docs/, which the site does not contain, by their names."""
    if page.is_homepage:  # its tab would bear the site's name alone
        page.meta["title"] = markdown.partition("\n")[0].lstrip("# ")
    return re.sub(r"\[([^\]]+)\]\(\.\./\.\./[^)]+\)", r"`\1`", markdown)
