"""The model: a frozen base with a module per language, registered with the Auto classes of transformers."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoProcessor

from ccr_adapters.configuration import CCRConfig, HeadConfig, LanguageConfig, VocabularyConfig
from ccr_adapters.modeling.model import CCRModel, CCROutput
from ccr_adapters.modeling.vocabulary import Vocabulary
from ccr_adapters.processing import CCRProcessor

AutoConfig.register("ccr", CCRConfig, exist_ok=True)
AutoModel.register(CCRConfig, CCRModel, exist_ok=True)
AutoProcessor.register(CCRConfig, CCRProcessor, exist_ok=True)

__all__ = [
    "CCRConfig",
    "CCRModel",
    "CCROutput",
    "CCRProcessor",
    "HeadConfig",
    "LanguageConfig",
    "Vocabulary",
    "VocabularyConfig",
]
