"""`CCRModel`: a frozen dual encoder, a small module per language beside it, and one way to encode with any of them."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftConfig, PeftType, inject_adapter_in_model
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer, delete_adapter
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import ModelOutput

from ccr_adapters.configuration import BASE_LANGUAGES, CCRConfig, LanguageConfig, VocabularyConfig
from ccr_adapters.dasd import BASE, Condition, DASDConfig, DASDLayer, find_text_encoder
from ccr_adapters.dasd.anatomy import embedding_dim_of, width_of
from ccr_adapters.dasd.condition import ARGUMENT
from ccr_adapters.dasd.disentangle import pool
from ccr_adapters.errors import ConfigError, ImageError, LanguageError
from ccr_adapters.modeling.encoding import encode_image, encode_text
from ccr_adapters.modeling.fingerprint import weights_sha256
from ccr_adapters.modeling.persistence import load_languages, load_model, save_model
from ccr_adapters.modeling.towers import TextTower, pooler_output
from ccr_adapters.modeling.vocabulary import Vocabulary
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.bases import resolve_base
from ccr_adapters.processing.captions import end_token_id

logger = logging.getLogger(__name__)


@dataclass
class CCROutput(ModelOutput):
    """What `CCRModel.forward` returns; the fields are those of transformers' dual encoders."""

    loss: Tensor | None = None
    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None


class CCRModel(PreTrainedModel):
    """A dual encoder that understands more languages than it was trained on.

    Build one with [`CCRModel.from_base`] and [`CCRModel.add_language`], or load an adapter repository with
    [`CCRModel.from_pretrained`].

    Args:
        config: The configuration.
        base: The base model; `None` builds it from the configuration with random weights.
        processor: Its processor, for `encode_text` and `encode_image`.

    Example:
        >>> model = CCRModel.from_pretrained("org/dasd-clip-de")  # doctest: +SKIP
        >>> model.similarity(model.encode_text(["Ein Hund"]), model.encode_image(["dog.jpg"]))  # doctest: +SKIP
    """

    config_class = CCRConfig
    base_model_prefix = "base"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(
        self, config: CCRConfig, base: PreTrainedModel | None = None, processor: CCRProcessor | None = None
    ) -> None:
        super().__init__(config)
        if base is None:
            if config.base_config is None:
                raise ConfigError(
                    "A CCRConfig without `base_config` says nothing about the base; see CCRModel.from_base."
                )
            values = dict(config.base_config)
            base = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
        self.base = base.requires_grad_(False).eval()
        self.vocabularies = nn.ModuleDict()
        self.processor = processor
        self.active_language: str | None = None
        self.base_frozen = True
        self._tower()  # refuse a base without a known text encoder now
        self.eval()

    # --------------------------------------------------------------------------------------------------- building

    @classmethod
    def from_base(
        cls,
        base: str | Path | PreTrainedModel,
        *,
        processor: CCRProcessor | None = None,
        pooling: str | None = None,
        visual_dim: int | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> CCRModel:
        """Start from a dual encoder, or from a text encoder whose visual vectors are precomputed.

        Args:
            base: Repository, folder, or a model of transformers.
            processor: The processor; `None` loads it from where the base comes from.
            pooling: For a text encoder alone: `"mean"` (default) or `"first"`.
            visual_dim: For a text encoder alone: width of the visual vectors; default its own width.
            revision: Revision of a repository.
            kwargs: Passed to `AutoModel.from_pretrained` (`dtype`, by default float32, `token`, `local_files_only`, ...).
        """
        if isinstance(base, PreTrainedModel):
            module, name = base, getattr(base, "name_or_path", "") or None
        else:
            name = str(base)
            # left to itself transformers takes the precision of the file, and float16 cannot be trained in
            kwargs.setdefault("dtype", torch.float32)
            module = AutoModel.from_pretrained(resolve_base(name), revision=revision or "main", **kwargs)
        if processor is None and name:
            hub = {key: kwargs[key] for key in ("token", "cache_dir", "local_files_only") if key in kwargs}
            processor = CCRProcessor.for_base(resolve_base(name), module.config, revision=revision or "main", **hub)
        dual = hasattr(module, "get_image_features")
        encoder = find_text_encoder(module)
        config = CCRConfig(
            base_model_name_or_path=name,
            base_revision=revision,
            base_config=_plain(module.config),
            pooling=None if dual else (pooling or "mean"),
            visual_dim=None if dual else (visual_dim or width_of(encoder.config)),
        )
        return cls(config, module, processor)

    def add_language(
        self,
        code: str,
        adapter: PeftConfig | None = None,
        *,
        tokenizer: Any | None = None,
        vocabulary: VocabularyConfig | None = None,
        source: Tensor | None = None,
        touched: Iterable[int] | None = None,
        max_length: int | None = None,
    ) -> None:
        """Give the model a new, untrained language.

        Args:
            code: Its BCP-47 code, `"de"`.
            adapter: Any peft configuration; default `DASDConfig()`.
            tokenizer: The language's own tokenizer; `None` shares the base's.
            vocabulary: Its token embedding; default: a trained table of the encoder's width.
            source: Rows that the table starts from. (n, e)
            touched: Ids that the training captions use, for `train="touched"`.
            max_length: Longest caption in tokens; default the base's.

        Raises:
            LanguageError: If the code is taken or reserved.
        """
        self.check_new_language(code)
        # the caller may use its configuration again, for another language or base
        adapter = DASDConfig() if adapter is None else copy.deepcopy(adapter)
        encoder = find_text_encoder(self.base)
        longest = self.processor.base_max_length if self.processor else int(encoder.config.max_position_embeddings)
        if max_length is not None and not 2 <= max_length <= longest:
            raise ConfigError(f"`max_length` is {max_length}; the base takes 2 to {longest} tokens.")
        table: Vocabulary | None = None
        if tokenizer is not None:
            end = end_token_id(tokenizer)
            if vocabulary is None:
                vocabulary = VocabularyConfig(size=len(tokenizer), width=width_of(encoder.config))
            if vocabulary.size < len(tokenizer):
                raise ConfigError(f"The vocabulary has {vocabulary.size} rows, its tokenizer {len(tokenizer)} tokens.")
            table = Vocabulary(vocabulary, width_of(encoder.config), source=source, touched=touched)
            if isinstance(adapter, DASDConfig) and adapter.pooling_token_id is None:
                adapter.pooling_token_id = end
        elif vocabulary is not None:
            raise ConfigError("A vocabulary needs the `tokenizer` that makes its ids.")
        self.inject(adapter, code)
        parameter = next(self.base.parameters())
        if table is not None:
            self.vocabularies[code] = table.to(parameter.device)
        self.config.languages[code] = LanguageConfig(vocabulary=vocabulary, max_length=max_length or longest)
        if self.processor is not None:
            self.processor.add_language(code, tokenizer, max_length or longest)
        self.set_language(code)

    def check_new_language(self, code: str) -> None:
        """Refuse a code that is taken, or that means the base."""
        if code in self.config.languages:
            raise LanguageError(f"Language {code!r} is already there. Remove it first with delete_language({code!r}).")
        if code in BASE_LANGUAGES or code == "active" or not code or "." in code or "/" in code:
            raise LanguageError(
                f"{code!r} cannot be added: it means the base, or is no language code. Use one like 'de'."
            )

    def inject(self, adapter: PeftConfig, code: str, device: str | None = None) -> None:
        """Put an untrained adapter into the base; on the device `"meta"` its weights take no memory yet."""
        encoder = find_text_encoder(self.base)
        _refuse_changes_of_the_base(adapter)
        methods = {str(config.peft_type) for config in getattr(self.base, "peft_config", {}).values()}
        # the wrappers of a deleted language stay
        methods |= {str(DASDConfig().peft_type) for layer in self._tuner_layers() if isinstance(layer, DASDLayer)}
        if methods - {str(adapter.peft_type)}:
            # peft does not look for blocks inside the wrappers of another method
            raise ConfigError(
                f"The model's languages use {', '.join(sorted(methods))}; one of {adapter.peft_type} cannot stand beside "
                "them on the same base. Build a second model for it."
            )
        if not isinstance(adapter, DASDConfig) and getattr(adapter, "target_modules", None) is None:
            # peft's defaults know no dual encoders, and would look for their names in the image tower too
            adapter.target_modules = _linear_maps(self.base, encoder.blocks_name)  # type: ignore[attr-defined]
        with warnings.catch_warnings(), ExitStack() as undo:
            # several adapters in one model are what this is for
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
            undo.callback(self._forget, code, adapter)
            if device is None:
                inject_adapter_in_model(adapter, self.base, adapter_name=code)
            else:
                with torch.device(device):
                    inject_adapter_in_model(adapter, self.base, adapter_name=code)
            undo.pop_all()
        self.train(self.training)

    def _forget(self, code: str, adapter: PeftConfig) -> None:
        """Remove an adapter, or what a failed injection left of it."""
        getattr(self.base, "peft_config", {}).pop(code, None)
        delete_adapter(self.base, code, prefix=PEFT_TYPE_TO_PREFIX_MAPPING[PeftType(adapter.peft_type)])

    def delete_language(self, code: str) -> None:
        """Remove a language and its weights."""
        self.known_language(code)
        self._forget(code, self.base.peft_config[code])
        if code in self.vocabularies:
            del self.vocabularies[code]
        del self.config.languages[code]
        if self.processor is not None:
            self.processor.remove_language(code)
        if self.active_language == code:
            self.active_language = next(iter(self.config.languages), None)

    # -------------------------------------------------------------------------------------------------- languages

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that have an adapter here."""
        return list(self.config.languages)

    @property
    def modalities(self) -> list[str]:
        """What the model encodes."""
        return ["text", "image"] if hasattr(self.base, "get_image_features") else ["text"]

    @property
    def embedding_dim(self) -> int:
        """Width of the shared space, `d`."""
        return embedding_dim_of(self.base.config, find_text_encoder(self.base).config)

    def set_language(self, code: str | None) -> None:
        """Choose the language of captions that come without one; `None` or `"en"` is the base."""
        self.active_language = self.resolve_language(code)

    @contextmanager
    def language(self, code: str | None) -> Iterator[CCRModel]:
        """Choose a language for a while: `with model.language("de"): ...`."""
        before = self.active_language
        self.set_language(code)
        try:
            yield self
        finally:
            self.active_language = before

    def known_language(self, code: str) -> str:
        """The code, if it has an adapter; else an error that lists those there are."""
        if code not in self.config.languages:
            raise LanguageError(
                f"Language {code!r} has no adapter. Loaded: {', '.join(sorted(self.languages)) or 'none'}. Load one with "
                "CCRModel.from_pretrained(folder) or load_language(folder), or pass language=None for the base."
            )
        return code

    def resolve_language(self, code: str | None) -> str | None:
        """The language that a code means: `"active"` the chosen one, `None` and `"en"` the base (`None`)."""
        if code is None or (code in BASE_LANGUAGES and code not in self.config.languages):
            return None
        return self.active_language if code == "active" else self.known_language(code)

    def disentangles(self, code: str) -> bool:
        """Whether a language's adapter is dynamic, and so makes disentangled features."""
        config = getattr(self.base, "peft_config", {}).get(self.known_language(code))
        return isinstance(config, DASDConfig) and config.mode == "dynamic"

    def trainable(self, code: str) -> list[nn.Parameter]:
        """Make the parameters of one language trainable, freeze all others, and return them."""
        self.known_language(code)
        self.requires_grad_(False)
        for layer in self._tuner_layers():
            layer.set_adapter([code])
        chosen = [parameter for parameter in self.base.parameters() if parameter.requires_grad]
        if code in self.vocabularies:
            table: Any = self.vocabularies[code]
            table.requires_grad_(True)
            table.table.weight.requires_grad_(table.config.train == "all")
            chosen += [parameter for parameter in table.parameters() if parameter.requires_grad]
        return chosen

    def _tuner_layers(self) -> list[BaseTunerLayer]:
        return [module for module in self.base.modules() if isinstance(module, BaseTunerLayer)]

    def unfreeze_base(self) -> None:
        """Make the base itself trainable, before it has any language: an adapter would not fit the changed base.

        Raises:
            ConfigError: If there is a language already.
        """
        if self.languages:
            raise ConfigError(f"The base has adapters ({', '.join(self.languages)}); train it before adding languages.")
        self.base_frozen = False
        self.base.requires_grad_(True)

    def train(self, mode: bool = True) -> CCRModel:
        """Set the mode; a frozen base keeps its dropout off, so that its targets stand still."""
        super().train(mode)
        if mode and self.base_frozen:
            _keep_still(self.base)
        return self

    # ------------------------------------------------------------------------------------------------- features

    def mixes_languages(self) -> bool:
        """Whether rows of several languages can share a pass: dynamic adapters know names per row, others do not."""
        return all(isinstance(layer, DASDLayer) for layer in self._tuner_layers())

    def _tower(self) -> TextTower:
        return TextTower(self.base, find_text_encoder(self.base), self.config.pooling)

    @contextmanager
    def _others(self, code: str | None) -> Iterator[None]:
        """Switch adapters that are not DASD's (LoRA, ...), which know no names per row, for one pass."""
        layers = [layer for layer in self._tuner_layers() if not isinstance(layer, DASDLayer)]
        before = [(layer, layer._disable_adapters, layer._active_adapter) for layer in layers]
        try:
            for layer in layers:
                layer._disable_adapters = code is None
                if code is not None:
                    layer._active_adapter = [code]
            yield
        finally:
            for layer, disabled, active in before:
                layer._disable_adapters, layer._active_adapter = disabled, active

    def base_features(self, **inputs: Any) -> Tensor:
        """Features of the base, as if no adapter were there; not normalised. (B, d)"""
        if any(isinstance(layer, DASDLayer) for layer in self._tuner_layers()):
            inputs[ARGUMENT] = Condition(adapter_names=[BASE] * len(inputs["input_ids"]))
        with self._others(None):
            if hasattr(self.base, "get_text_features"):
                return pooler_output(self.base.get_text_features(**inputs))
            last = self.base(**inputs).last_hidden_state  # (B, L, w)
            first = torch.zeros(len(last), dtype=torch.long, device=last.device)
            return pool(last, first if self.config.pooling == "first" else None, inputs.get("attention_mask"))

    def embed_tokens(self, input_ids: Tensor, code: str) -> Tensor:
        """Token states of a language, from its own table or the base's. (B, L) -> (B, L, w)"""
        if code in self.vocabularies:
            return self.vocabularies[code](input_ids)
        return find_text_encoder(self.base).token_embedding(input_ids)

    def target_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
    ) -> tuple[Tensor, Tensor, Condition]:
        """Encode captions with their adapters.

        Args:
            input_ids: Ids of each language's own tokenizer. (B, L)
            attention_mask: 1 at real tokens; `None` takes all tokens as real, in a causal encoder those up to the end
                token. (B, L)
            pooled_at: Position of each end token. (B,)
            language: One for all rows, or one a row.

        Returns:
            Features (B, d), not normalised; last token states (B, L, w); and the pass's condition, which holds the
            disentangled features of dynamic adapters.
        """
        tower = self._tower()
        codes = [language] * len(input_ids) if isinstance(language, str) else list(language)
        names = sorted(set(codes))
        for name in names:
            if name != BASE:
                self.known_language(name)
        if len(codes) != len(input_ids):
            raise LanguageError(f"{len(codes)} languages for {len(input_ids)} captions; pass one, or one a caption.")
        if len(names) > 1 and not self.mixes_languages():
            raise LanguageError(f"These adapters take one language a pass, not {', '.join(names)}. Split the batch.")
        if len(names) == 1:
            states = self.embed_tokens(input_ids, names[0])
        else:
            states = input_ids.new_zeros((*input_ids.shape, width_of(tower.encoder.config)), dtype=self.base.dtype)
            for name in names:
                rows = torch.tensor([i for i, code in enumerate(codes) if code == name], device=input_ids.device)
                states = states.index_copy(0, rows, self.embed_tokens(input_ids[rows], name).to(states.dtype))
        states = states.to(self.base.dtype)
        if pooled_at is None:
            pooled_at = self._end_positions(input_ids, attention_mask, tower, codes)
        if attention_mask is None and tower.family == "eos":
            # what stands behind the end token is padding
            attention_mask = (torch.arange(input_ids.shape[1], device=input_ids.device) <= pooled_at[:, None]).long()
        condition = Condition(input_ids, attention_mask, codes, pooled_at)
        others = names[0] if len(names) == 1 and names[0] != BASE else None
        # a causal encoder's end token sees nothing behind it, so padding needs no mask there, and attention runs faster
        mask = None if tower.family == "eos" else attention_mask
        with self._others(others):
            features, last = tower(states, mask, pooled_at, condition)
        return features, last, condition

    def _end_positions(
        self, input_ids: Tensor, attention_mask: Tensor | None, tower: TextTower, codes: list[str]
    ) -> Tensor:
        if attention_mask is not None and tower.family != "last":
            return attention_mask.sum(dim=1) - 1
        last = input_ids.new_full((len(input_ids),), input_ids.shape[1] - 1)
        if tower.family != "eos":
            return last
        own = [self._end_token(code, tower) for code in codes]
        found = input_ids == input_ids.new_tensor(own).unsqueeze(1)  # (B, L)
        return torch.where(found.any(dim=1), found.int().argmax(dim=1), last)

    def _end_token(self, code: str, tower: TextTower) -> int:
        if self.processor is not None:
            return end_token_id(self.processor.tokenizer_for(code))
        adapter = getattr(self.base, "peft_config", {}).get(code)
        return getattr(adapter, "pooling_token_id", None) or tower.encoder.config.eos_token_id

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pooled_at: Tensor | None = None,
        language: str | Sequence[str | None] | None = "active",
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Text features as transformers gives them: not normalised, in `pooler_output`. (B, d)"""
        code: str | list[str] | None
        if language is None or isinstance(language, str):
            code = self.resolve_language(language)
        else:
            code = [self.resolve_language(each) or BASE for each in language]
        if code is None:
            inputs = {"input_ids": input_ids, **kwargs}
            if attention_mask is not None:
                inputs["attention_mask"] = attention_mask
            return BaseModelOutputWithPooling(pooler_output=self.base_features(**inputs))
        features, last, _ = self.target_features(input_ids, attention_mask, pooled_at, code)
        return BaseModelOutputWithPooling(last_hidden_state=last, pooler_output=features)

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Image features of the base, untouched by any adapter, in `pooler_output`. (B, d)"""
        if not hasattr(self.base, "get_image_features"):
            raise ImageError("This base has no image tower; pass precomputed visual vectors instead of pictures.")
        with self._others(None):
            output = self.base.get_image_features(pixel_values=pixel_values, **kwargs)
        return output if not isinstance(output, Tensor) else BaseModelOutputWithPooling(pooler_output=output)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pooled_at: Tensor | None = None,
        visual_embeds: Tensor | None = None,
        language: str | Sequence[str] | None = "active",
        return_loss: bool | None = None,
        **kwargs: Any,
    ) -> CCROutput:
        """Score captions against pictures, as transformers' dual encoders do.

        Args:
            input_ids: Ids of the captions. (B, L)
            pixel_values: Pictures. (M, 3, H, W)
            attention_mask: 1 at real tokens. (B, L)
            pooled_at: Position of each end token. (B,)
            visual_embeds: Visual vectors instead of pictures. (M, d)
            language: Language of the captions; by default the active one.
            return_loss: Also return the base family's contrastive loss over the batch.
            kwargs: Ignored, as transformers' data collators pass more than is needed.
        """
        if input_ids is None or (pixel_values is None) == (visual_embeds is None):
            raise ConfigError("Pass `input_ids`, and either `pixel_values` or `visual_embeds`.")
        text = F.normalize(
            pooler_output(self.get_text_features(input_ids, attention_mask, pooled_at, language)), dim=-1
        )
        if visual_embeds is None:
            visual_embeds = pooler_output(self.get_image_features(pixel_values))  # type: ignore[arg-type]
        visual = F.normalize(visual_embeds, dim=-1)
        logits = text @ visual.t().to(text.dtype) * self.logit_scale
        bias = getattr(self.base, "logit_bias", None)
        if bias is not None:
            logits = logits + bias
        loss = None
        if return_loss:
            if bias is not None:  # SigLIP: every pair is a yes-or-no question
                signs = 2 * torch.eye(len(logits), device=logits.device) - 1
                loss = -F.logsigmoid(signs * logits).sum(dim=-1).mean()
            else:
                labels = torch.arange(len(logits), device=logits.device)
                loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2
        return CCROutput(
            loss=loss,
            logits_per_image=logits.t(),
            logits_per_text=logits,
            text_embeds=text,
            image_embeds=visual,
        )

    @property
    def logit_scale(self) -> Tensor:
        """Factor between cosine and logit: the base's, or 100."""
        scale = getattr(self.base, "logit_scale", None)
        return torch.tensor(100.0) if scale is None else scale.exp()

    @staticmethod
    def similarity(text: Tensor, visual: Tensor) -> Tensor:
        """Cosine similarity of every caption with every picture. (N, d), (M, d) -> (N, M)"""
        return F.normalize(text, dim=-1) @ F.normalize(visual, dim=-1).t()

    # -------------------------------------------------------------------------------------------- encode and files

    def encode_text(
        self,
        captions: str | Sequence[str],
        language: str | Sequence[str | None] | None = "active",
        *,
        batch_size: int = 64,
        show_progress: bool | None = None,
    ) -> Tensor:
        """Encode captions; see [`ccr_adapters.modeling.encoding.encode_text`]. -> (N, d), L2-normalised"""
        return encode_text(self, captions, language, batch_size=batch_size, show_progress=show_progress)

    def encode_image(self, pictures: Any, *, batch_size: int = 32, show_progress: bool | None = None) -> Tensor:
        """Encode pictures; see [`ccr_adapters.modeling.encoding.encode_image`]. -> (M, d), L2-normalised"""
        return encode_image(self, pictures, batch_size=batch_size, show_progress=show_progress)

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Write an adapter repository; see [`ccr_adapters.modeling.persistence.save_model`]."""
        save_model(self, save_directory, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> CCRModel:  # type: ignore[override]
        """Load an adapter repository with its base; see [`ccr_adapters.modeling.persistence.load_model`]."""
        model: CCRModel = load_model(cls, pretrained_model_name_or_path, *args, **kwargs)
        return model

    def load_language(self, folder: str | Path, code: str | None = None, **kwargs: Any) -> list[str]:
        """Add the languages of another adapter repository for the same base; returns their codes."""
        return load_languages(self, folder, code, **kwargs)

    def base_sha256(self) -> str:
        """Hash of the base's weights."""
        return weights_sha256(self.base)


def _keep_still(module: nn.Module) -> None:
    """Put a base into evaluation mode, but not the adapters inside it."""
    # attention asks its own flag for dropout, so it is not enough to look for modules of that name; a block's flag only
    # allows it to be recomputed
    if not isinstance(module, (BaseTunerLayer, GradientCheckpointingLayer)):
        module.training = False
    for name, child in module.named_children():
        if name == "base_layer" or not isinstance(module, BaseTunerLayer):
            _keep_still(child)


def _linear_maps(base: nn.Module, blocks_name: str) -> set[str]:
    """Names of all linear maps of the text encoder's blocks, as they are without adapters."""
    wrapped = tuple(f"{name}." for name, module in base.named_modules() if isinstance(module, BaseTunerLayer))
    return {
        name
        for name, module in base.named_modules()
        if name.startswith(f"{blocks_name}.")
        and isinstance(module, (nn.Linear, BaseTunerLayer))
        and not name.startswith(wrapped)
    }


def _refuse_changes_of_the_base(adapter: PeftConfig) -> None:
    """Refuse what would train or rewrite parts of the base, which its own language and the pictures share."""
    keys = ("modules_to_save", "trainable_token_indices", "layer_replication")
    changes = [name for name in keys if getattr(adapter, name, None)]
    changes += ["bias"] if getattr(adapter, "bias", "none") not in (None, "none") else []
    # these split the base's weights between base and adapter
    start = str(getattr(adapter, "init_lora_weights", None))
    changes += ["init_lora_weights"] if start.startswith(("pissa", "olora", "corda", "loftq")) else []
    if changes:
        raise ConfigError(
            f"`{changes[0]}={getattr(adapter, changes[0])!r}` would change the base, and with it the captions of its own "
            "language. Leave it out."
        )


def _plain(config: Any) -> dict[str, Any]:
    """A base's configuration as JSON values, without traces of the machine that it came from."""
    values = config.to_dict()
    for key in ("_name_or_path", "transformers_version", "architectures", "dtype"):
        values.pop(key, None)
    return values


__all__ = ["CCRModel", "CCROutput"]
