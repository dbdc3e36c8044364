"""The web page: search, captions and reasons in a browser. Needs Gradio (extra `demo`)."""

from __future__ import annotations

from ccr_adapters.demo.captions import Caption, read_captions
from ccr_adapters.demo.detect import Detector
from ccr_adapters.demo.page import build_page, launch

__all__ = ["Caption", "Detector", "build_page", "launch", "read_captions"]
