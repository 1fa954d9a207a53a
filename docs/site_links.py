"""What mkdocs must know beside mkdocs.yml: pages that lie outside docs/, and folders in the navigation.

A link of the repository, such as `../monitoring/README.md`, is true on the site too: the file it names becomes a page
(or a file to open) below `repository/`, and so do those that it names in turn.
"""

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

OUTSIDE = "repository/"
SHIM, OWN_SHIM = "https://unpkg.com/iframe-worker/shim", "assets/iframe-worker.js"
"""What lets the search work from a folder: where the theme looks for it, and where it is."""
LINK = re.compile(r"(?<!\\)(\]\()(?![a-z]+:|#)([^)\s#]+)")
"""The place that a Markdown link or picture names, without its anchor."""
FOLDER_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#:]+/)\)")
"""A link to a folder, which the site cannot show."""
CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of a folder where the navigation says `folder/*.md`."""
    config.nav = _expanded(config.nav, Path(config.docs_dir))
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what pages link to and does not lie in docs/."""
    docs = Path(config.docs_dir)
    waiting = {docs / file.src_uri for file in files.documentation_pages()}
    done: set[Path] = set()
    while waiting:
        page = waiting.pop()
        done.add(page)
        for _, link in LINK.findall(page.read_text("utf-8")):
            target = Path(posixpath.normpath((page.parent / link).as_posix()))
            if target in done or target.is_relative_to(docs) or not target.is_file():
                continue
            done.add(target)
            files.append(File.generated(config, _uri(target, docs), abs_src_path=str(target)))
            if target.suffix == ".md":
                waiting.add(target)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links to and from such pages into the site's."""
    docs = Path(config.docs_dir)
    assert page.file.abs_src_path is not None
    source = Path(page.file.abs_src_path)
    here = str(PurePosixPath(page.file.src_uri).parent)

    def moved(match: re.Match[str]) -> str:
        target = Path(posixpath.normpath((source.parent / match[2]).as_posix()))
        uri = _uri(target, docs)
        return match[1] + (posixpath.relpath(uri, here) if files.get_file_from_path(uri) else match[2])

    def named(match: re.Match[str]) -> str:
        return match[1] if (source.parent / match[2]).is_dir() else match[0]

    return LINK.sub(moved, FOLDER_LINK.sub(named, markdown))


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 (the library's signature)
    """Show a bar within code in a table, escaped as GitHub's tables want it, as a bar."""
    return CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 (the library's signature)
    """Take from this site what the theme would take from another."""
    return output.replace(SHIM, posixpath.relpath(OWN_SHIM, str(PurePosixPath(page.file.dest_uri).parent)))


def on_post_template(output: str, *, template_name: str, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Likewise of pages such as 404.html."""
    return output.replace(SHIM, OWN_SHIM)


def _uri(target: Path, docs: Path) -> str:
    """Where a file of the repository is on the site."""
    if target.is_relative_to(docs):
        return target.relative_to(docs).as_posix()
    if not target.is_relative_to(docs.parent):
        return ""
    return OUTSIDE + target.relative_to(docs.parent).as_posix()


def _expanded(nav: Any, docs: Path) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(entry, docs) for title, entry in nav.items()}
    if isinstance(nav, list):
        return [_expanded(entry, docs) for entry in nav]
    if "*" in nav:
        return [path.relative_to(docs).as_posix() for path in sorted(docs.glob(nav), key=_reading_order)]
    return nav


def _reading_order(path: Path) -> tuple[bool, str]:
    """A folder's README first."""
    return path.name != "README.md", path.name
