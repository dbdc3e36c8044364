"""The methods of the family, one short module each: which parts train in which stage, and on which terms."""

from __future__ import annotations

from ccr_adapters.methods.base import Method, Terms
from ccr_adapters.methods.dasd import DASD, NO_TERM, STAGES
from ccr_adapters.methods.english import EnglishFineTune

__all__ = ["DASD", "NO_TERM", "STAGES", "EnglishFineTune", "Method", "Terms"]
