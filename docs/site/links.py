"""A hook of the site: files of the repository that a page links to become pages too, so one link serves both readers.

On GitHub `../examples/demo.py` is the file. The site has no such folder: a linked Markdown file becomes a page, and any other
file a page with its text in it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", "": "make"}
PROJECT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")  # in the navigation, whoever links to them


def links_of(markdown: str) -> list[str]:
    """Where a page's links to files go, as they stand; code is no text with links."""
    return [match[2] for match in LINK.finditer(FENCE.sub("", markdown))]


def leaving(folder: str, link: str) -> str | None:
    """The path of a linked file in the repository, if it lies outside of docs/.

    Args:
        folder: Folder of the page in the repository, `docs/methods`.
        link: The link as it stands.
    """
    path = posixpath.normpath(posixpath.join(folder, link))
    return None if path.startswith(("docs/", "..")) else path


def page_of(path: str) -> str:
    """The page that a file of the repository becomes."""
    return path if path.endswith(".md") else f"files/{path.rpartition('.')[0] or path}.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each linked file, and for those that they link to."""
    from mkdocs.structure.files import File

    root = Path(config.docs_dir).parent
    waiting = [("docs", page.src_uri, page.content_string) for page in files.documentation_pages()]
    found: set[str] = set(PROJECT_PAGES)
    for start, uri, text in waiting:
        folder = posixpath.dirname(posixpath.join(start, uri))
        found.update(filter(None, (leaving(folder, link) for link in links_of(text))))
    done: set[str] = set()
    while todo := found - done:
        path = todo.pop()
        done.add(path)
        if not (root / path).is_file():
            continue  # left to the strict build, which names the link
        text = (root / path).read_text(encoding="utf-8")
        if path.endswith(".md"):
            found.update(filter(None, (leaving(posixpath.dirname(path), link) for link in links_of(text))))
        else:
            kind = LANGUAGES.get(Path(path).suffix, "text")
            text = f"---\nsearch: {{exclude: true}}\n---\n# `{path}`\n\n````{kind}\n{text}````\n"
        files.append(File.generated(config, page_of(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ at the pages of those files, and those of the files into docs/."""
    uri = page.file.src_uri
    of_project = page.file.generated_by is not None and not uri.startswith("reference/")
    folder = posixpath.dirname(uri if of_project else f"docs/{uri}")

    def rewritten(match: re.Match[str]) -> str:
        outside = leaving(folder, match[2])
        if outside is None and not of_project:
            return match[0]
        inside = posixpath.normpath(posixpath.join(folder, match[2])).removeprefix("docs/")
        target = inside if outside is None else page_of(outside)
        return f"{match[1]}{posixpath.relpath(target, posixpath.dirname(uri) or '.')}{match[3] or ''}{match[4]}"

    parts = re.split(f"({FENCE.pattern})", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else LINK.sub(rewritten, part) for part in parts)
