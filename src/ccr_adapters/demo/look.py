"""How the page looks: a quiet theme in system fonts, light and dark, and what Gradio's own style does not know."""

from __future__ import annotations

from typing import Any

from ccr_adapters.extras import require

CSS = """
.gradio-container { width: 100%; max-width: 1120px !important; margin: 0 auto !important; }
.gradio-container .main { min-width: 0; max-width: 100vw; padding-inline: clamp(1rem, 4vw, 2rem); }
.gradio-container .html-container { padding: 0; }
.gradio-container button[role="tab"].selected { color: var(--ccr-accent); }
.gradio-container { --ccr-accent: #1d4ed8; }
.dark .gradio-container, .dark.gradio-container { --ccr-accent: #93c5fd; }
.ccr-head h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.6rem 0 0.1rem; letter-spacing: -0.01em; }
.ccr-head p { color: var(--body-text-color-subdued); margin: 0; }
.ccr-row { align-items: end; }
.ccr-examples { gap: 0.4rem; align-items: baseline; flex-wrap: wrap; }
.ccr-examples > * { flex: 0 0 auto !important; min-width: 0 !important; width: auto !important; }
.ccr-examples button { font-weight: 400; max-width: 100%; white-space: normal; text-align: start; }
.ccr-examples p { color: var(--body-text-color-subdued); min-width: 4.5rem; margin: 0; font-size: 0.875rem; }
.ccr-said, .ccr-problem { margin: 0.2rem 0; font-size: 0.9rem; color: var(--body-text-color-subdued); }
.ccr-problem { color: var(--body-text-color); border-inline-start: 3px solid #dc2626; padding-inline-start: 0.6rem; }
.ccr-grid { list-style: none; padding: 0; margin: 0.4rem 0; display: grid; gap: 0.9rem;
  grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
.ccr-grid li { margin: 0; min-width: 0; }
.ccr-grid figure { margin: 0; }
.ccr-grid button { all: unset; display: block; width: 100%; cursor: zoom-in; border-radius: 8px; }
.ccr-grid button:focus-visible { outline: 3px solid var(--ccr-accent); outline-offset: 2px; }
.ccr-grid img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 8px;
  background: var(--background-fill-secondary); }
.ccr-grid figcaption { display: flex; flex-wrap: wrap; column-gap: 0.5rem; font-size: 0.8rem; margin-top: 0.3rem; }
.ccr-rank { font-weight: 600; }
.ccr-score { margin-inline-start: auto; font-variant-numeric: tabular-nums; }
.ccr-name { flex-basis: 100%; color: var(--body-text-color-subdued); overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.ccr-gone { aspect-ratio: 1; display: grid; place-items: center; margin: 0; border-radius: 8px; font-size: 0.8rem;
  color: var(--body-text-color-subdued); border: 1px dashed var(--border-color-primary); }
.ccr-large { margin: auto; border: 0; border-radius: 12px; padding: 1rem; max-width: min(92vw, 720px);
  background: var(--background-fill-primary); color: var(--body-text-color); }
.ccr-large::backdrop { background: rgb(0 0 0 / 0.6); }
.ccr-large img { width: min(84vw, 640px); max-height: 72vh; aspect-ratio: auto; object-fit: contain; }
.ccr-large p { margin: 0.7rem 0 0; max-width: min(84vw, 640px); }
.ccr-columns { display: grid; gap: 1.6rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr));
  align-items: start; }
.ccr-columns > * { min-width: 0; }
.ccr-columns h2 { font-size: 1rem; margin: 0.4rem 0 0; }
.ccr-columns .ccr-grid { grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)); gap: 0.6rem; }
.ccr-words { color: var(--body-text-color-subdued); margin: 0; font-size: 0.9rem; overflow-wrap: anywhere; }
.ccr-uploaded { max-height: 260px; max-width: 100%; border-radius: 8px; margin: 0.4rem 0; }
.ccr-table { width: 100%; border-collapse: collapse; font-size: 0.9rem; margin: 0.4rem 0; }
.ccr-table caption { text-align: start; font-weight: 600; padding: 0.3rem 0; color: var(--body-text-color); }
.ccr-table th { text-align: start; font-weight: 500; color: var(--body-text-color-subdued); font-size: 0.8rem; }
.ccr-table, .ccr-table tr { border: 0 !important; }
.ccr-table th, .ccr-table td { padding: 0.35rem 0.6rem 0.35rem 0; vertical-align: top;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; }
.ccr-table td:first-child { font-variant-numeric: tabular-nums; width: 3.5rem; }
.ccr-table td { overflow-wrap: anywhere; }
.ccr-style { color: var(--body-text-color-subdued); white-space: nowrap; }
.ccr-map { margin: 0.6rem 0; max-width: 760px; }
.ccr-map img { width: 100%; border: 1px solid var(--border-color-primary); border-radius: 8px; }
.ccr-map ul { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; padding: 0; margin: 0.6rem 0 0.3rem;
  font-size: 0.85rem; }
.ccr-map li { display: flex; align-items: center; gap: 0.4rem; margin: 0; }
.ccr-map li span { width: 0.7rem; height: 0.7rem; border-radius: 50%; }
.ccr-map li .ccr-star { color: #dc2626; width: auto; height: auto; line-height: 1; }
.ccr-map li .ccr-scale { width: 7rem; border-radius: 4px;
  background: linear-gradient(90deg, #440154, #3b528b, #21918c, #5ec962, #fde725); }
.ccr-map p { color: var(--body-text-color-subdued); font-size: 0.85rem; margin: 0; }
"""


def theme() -> Any:
    """The theme: nothing in it is fetched from elsewhere.

    Returns:
        A theme of Gradio.

    Raises:
        MissingExtraError: If there is no Gradio.
    """
    gr: Any = require("gradio", extra="demo")
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="md",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ).set(
        # quiet, and still 4.5 to 1 against what they stand on
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
    )
