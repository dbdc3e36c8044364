"""An extension of griffe: docstrings as the site shows them. `Example:` becomes a block of code, and a name in brackets code."""

from __future__ import annotations

import re
from typing import Any

import griffe

NAME = re.compile(r"\[(`[^`]+`)\](?![\[(])")


class HouseStyle(griffe.Extension):
    """Brings docstrings to the form that mkdocstrings knows."""

    def on_object(self, *, obj: griffe.Object, **more: Any) -> None:
        """Rewrite a docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = NAME.sub(r"\1", obj.docstring.value).replace("\nExample:\n", "\nExamples:\n")
