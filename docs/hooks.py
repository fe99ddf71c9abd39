"""What the site takes from the repository outside docs/: the README as its first page, and every file that a page links to.

Pages link to files by their place in the repository (``../benchmarks/results/x.svg``), so the links work where the sources are read.
Here such a file joins the site under its path, and the link is rewritten. A link to a folder becomes its text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)#\s]*)(#[^)\s]*)?\)")
PAGES = (
    "README.md",
    "DECISIONS.md",
    "LOG.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "configs/README.md",
    "configs/SCALING.md",
)


def source(path: str) -> str:
    """The place in the site of a file of the repository."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def repository(place: str) -> str:
    """The inverse of ``source``."""
    return "README.md" if place == "index.md" else f"docs/{place}" if (ROOT / "docs" / place).exists() else place


def target(page: str, link: str) -> str | None:
    """The file or folder of the repository that ``page`` links to; None for an address, or a link that leads nowhere."""
    if not link or "://" in link:
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def on_files(files, config):
    """Add the pages outside docs/, the files that they and those of docs/ link to, and so on."""
    waiting = [*PAGES, *(f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".md"))]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(source(path)) is None:
            files.append(File.generated(config, source(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            linked = {target(path, match[3]) for match in LINK.finditer((ROOT / path).read_text())}
            found = {link for link in linked if link and (ROOT / link).is_file()} - seen
            waiting += sorted(found)
            seen |= found
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrite the links that leave docs/, or come from outside it."""
    here = page.file.src_uri

    def rewrite(match):
        path = target(repository(here), match[3])
        if path is None:
            return match[0]
        if (ROOT / path).is_dir():
            return match[2]
        there = posixpath.relpath(source(path), posixpath.dirname(here) or ".")
        return f"{match[1]}[{match[2]}]({there}{match[4] or ''})"

    return LINK.sub(rewrite, markdown)
