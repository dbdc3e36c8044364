"""A hook of the site: mermaid diagrams become pictures while it is built; a browser would load mermaid from elsewhere."""

from __future__ import annotations

import hashlib
from typing import Any

import mermaidx
from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Have fences of mermaid drawn."""
    fence = {"name": "mermaid", "class": "diagram", "format": drawn}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def drawn(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **more: Any) -> str:
    """A diagram as SVG, from top to bottom: a page is narrower than most of them are long.

    Args:
        source: What stands in the fence.
        language: `mermaid`.
        css_class: Class of the element around it.
        options: Of the fence.
        md: The Markdown converter.
        more: What else superfences passes.

    Returns:
        An element of HTML.
    """
    svg = mermaidx.render(source.replace("flowchart LR", "flowchart TB", 1)).svg()
    # styles inside are bound to the id, and a page may have two
    own = f"diagram-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    return f'<div class="{css_class}">{svg.replace("my-svg", own)}</div>'
