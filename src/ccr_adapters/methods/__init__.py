"""The methods of the family, one short module each: which parts train in which stage, and on which terms."""

from __future__ import annotations

from ccr_adapters.errors import ConfigError
from ccr_adapters.methods.base import Method, Terms
from ccr_adapters.methods.cl2cm import CL2CM, CL2CMTerms
from ccr_adapters.methods.dasd import DASD, NO_TERM, DASDTerms
from ccr_adapters.methods.english import EnglishFineTune
from ccr_adapters.methods.mla import MLA
from ccr_adapters.methods.nrccr import NRCCR, NRCCRTerms
from ccr_adapters.methods.transfer import Transfer, TransferTerms

METHODS: dict[str, type[Method]] = {"dasd": DASD, "mla": MLA, "nrccr": NRCCR, "cl2cm": CL2CM, "transfer": Transfer}
"""Methods by the name that a recipe gives them."""


def method_of(name: str) -> type[Method]:
    """A method by its name.

    Raises:
        ConfigError: Listing those there are.
    """
    if name not in METHODS:
        raise ConfigError(f"There is no method {name!r}. There are: {', '.join(METHODS)}.")
    return METHODS[name]


__all__ = [
    "CL2CM",
    "DASD",
    "METHODS",
    "MLA",
    "NO_TERM",
    "NRCCR",
    "CL2CMTerms",
    "DASDTerms",
    "EnglishFineTune",
    "Method",
    "NRCCRTerms",
    "Terms",
    "Transfer",
    "TransferTerms",
    "method_of",
]
