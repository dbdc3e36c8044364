"""The languages that live in one base: added, chosen, trained and removed, without a change to the base itself."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftConfig, PeftType, inject_adapter_in_model
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer, delete_adapter
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from ccr_adapters.configuration import BASE_LANGUAGES, CCRConfig, HeadConfig, LanguageConfig, VocabularyConfig
from ccr_adapters.dasd import DASDConfig, DASDLayer, find_text_encoder
from ccr_adapters.dasd.anatomy import embedding_dim_of, width_of
from ccr_adapters.dasd.families import caption_limit
from ccr_adapters.errors import ConfigError, LanguageError
from ccr_adapters.full import FullConfig, FullLayer
from ccr_adapters.modeling.fingerprint import weights_sha256
from ccr_adapters.modeling.heads import Head
from ccr_adapters.modeling.language_files import check_it_loads, load_language
from ccr_adapters.modeling.recognise import check_base
from ccr_adapters.modeling.shelf import Place, Shelf
from ccr_adapters.modeling.vocabulary import Vocabulary
from ccr_adapters.modeling.vocabulary_source import with_hash
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.captions import end_token_id
from ccr_adapters.processing.repository import elsewhere

if TYPE_CHECKING:
    from typing_extensions import Self


_LEAVE_THE_BASE = ("DASD", "FULL", "LORA")
"""Methods that are known to leave the base's weights alone; with another one they are compared."""


class LanguageHost(PreTrainedModel):
    """A frozen base with a small module per language beside it; how captions go through them is [`CaptionPasses`]'s.

    Args:
        config: The configuration.
        base: The base model; `None` builds it from the configuration with random weights.
        processor: Its processor.
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
            base = AutoModel.from_config(config.described_base())
        self.base = base.requires_grad_(False).eval()
        self.vocabularies = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        # networks of a method in training, which are no languages: whose twin each is
        self.auxiliary: dict[str, str] = {}
        self.processor = processor
        self.base_folder: Path | None = None  # of a base that an adapter names by a path of its own
        self.shelf = Shelf()
        self.active_language: str | None = None
        self.verified_sha256: str | None = None  # of the base, as adapters were found to need it
        self.base_frozen = True
        check_base(self.base, config.pooling)  # refuse a base whose captions cannot be followed now
        self.eval()

    # ---------------------------------------------------------------------------------------------- add and remove

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
        head: HeadConfig | None = None,
    ) -> None:
        """Give the model a new, untrained language.

        Args:
            code: Its BCP-47 code, `"de"`.
            adapter: Configuration of DASD or of another method of peft; default `DASDConfig()`.
            tokenizer: The language's own tokenizer; `None` shares the base's.
            vocabulary: Its token embedding; default: a trained table of the encoder's width.
            source: Rows that the table starts from. (n, e)
            touched: Ids that the training captions use, for `train="touched"`.
            max_length: Longest caption in tokens; default the base's.
            head: A mapping of its captions and pictures into a space of their own (NRCCR); default: the base's space.

        Raises:
            ConfigError: If a vocabulary has no tokenizer or fewer rows than it, no processor is there to keep that, or the base
                takes no captions so long; if the method would change the base, or its adapters could not be loaded again.
            LanguageError: If the code is taken or reserved.
        """
        self.check_new_language(code)
        # the caller may use its configuration again, for another language or base
        adapter = DASDConfig() if adapter is None else copy.deepcopy(adapter)
        encoder = find_text_encoder(self.base)
        longest = self.processor.base_max_length if self.processor else caption_limit(self.base.config)
        if max_length is not None and not 2 <= max_length <= longest:
            raise ConfigError(f"`max_length` is {max_length}; the base takes 2 to {longest} tokens.")
        _check_tokenizer(tokenizer, vocabulary, self.processor)
        table: Vocabulary | None = None
        if tokenizer is not None:
            end = end_token_id(tokenizer)
            if vocabulary is None:
                vocabulary = VocabularyConfig(size=len(tokenizer), width=encoder.token_width)
            if vocabulary.size < len(tokenizer):
                raise ConfigError(f"The vocabulary has {vocabulary.size} rows, its tokenizer {len(tokenizer)} tokens.")
            vocabulary = with_hash(vocabulary, source)
            table = Vocabulary(vocabulary, encoder.token_width, source=source, touched=touched)
            if isinstance(adapter, DASDConfig) and adapter.pooling_token_id is None:
                adapter.pooling_token_id = end
        self.inject(adapter, code)
        parameter = next(self.base.parameters())
        if table is not None:
            # as loading does it, so that what is saved is what comes back
            self.vocabularies[code] = table.to(parameter.device, self.base.dtype)
        if head is not None:
            # one head reads the language and its source
            head = replace(head, positions=head.positions or longest)
            self.heads[code] = self.build_head(head).to(parameter.device, parameter.dtype).train(self.training)
        # features that average over padding would follow the longest caption of a batch
        pad_to = (max_length or longest) if getattr(adapter, "sa_all_positions", False) else None
        self.config.languages[code] = LanguageConfig(vocabulary, max_length or longest, head=head, pad_to=pad_to)
        if self.processor is not None:
            self.processor.add_language(code, tokenizer, max_length or longest)
        self.set_language(code)

    def build_head(self, config: HeadConfig) -> Head:
        """An untrained head for this base."""
        return Head(config, width_of(find_text_encoder(self.base).config), self.config.visual_dim or self.embedding_dim)

    def check_new_language(self, code: str) -> None:
        """Refuse a code that is taken, or that means the base."""
        if code in self.languages:
            raise LanguageError(f"Language {code!r} is already there. Remove it first with delete_language({code!r}).")
        # adapters lie in module dictionaries, where the name of a method is taken: Tongan's 'to', for one
        taken = hasattr(nn.ModuleDict, code)
        if code in BASE_LANGUAGES or code in ("active", "auto") or not code or "." in code or "/" in code or taken:
            raise LanguageError(
                f"{code!r} cannot be added: it means the base, is no language code, or is a name that torch needs. Use one like "
                "'de', or the three-letter code ('ton')."
            )

    def inject(self, adapter: PeftConfig, code: str, device: str | None = None) -> None:
        """Put an untrained adapter into the base; on the device `"meta"` its weights take no memory yet."""
        encoder = find_text_encoder(self.base)
        _refuse_changes_of_the_base(adapter)
        methods = {PeftType(config.peft_type).value for config in getattr(self.base, "peft_config", {}).values()}
        # the wrappers of a deleted language stay
        methods |= {"DASD" for layer in self._tuner_layers() if isinstance(layer, DASDLayer)}
        methods |= {"FULL" for layer in self._tuner_layers() if isinstance(layer, FullLayer)}
        method = PeftType(adapter.peft_type).value
        if methods - {method}:
            # peft does not look for blocks inside the wrappers of another method
            raise ConfigError(
                f"The model's languages use {', '.join(sorted(methods))}; one of {method} cannot stand beside "
                "them on the same base. Build a second model for it."
            )
        if not isinstance(adapter, (DASDConfig, FullConfig)) and getattr(adapter, "target_modules", None) is None:
            # peft's defaults know no dual encoders, and would look for their names in the image tower too
            adapter.target_modules = _linear_maps(self.base, encoder.blocks_name)  # type: ignore[attr-defined]
        with warnings.catch_warnings(), ExitStack() as undo:
            # several adapters in one model are what this is for
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
            if device is None:
                check_it_loads(self.base, adapter, code)
            undo.callback(self._forget, code, adapter)
            before = None if method in _LEAVE_THE_BASE else weights_sha256(self.base, rounded=False)
            if device is None:
                inject_adapter_in_model(adapter, self.base, adapter_name=code)
            else:
                with torch.device(device):
                    inject_adapter_in_model(adapter, self.base, adapter_name=code)
            if before is not None and weights_sha256(self.base, rounded=False) != before:
                raise ConfigError(
                    f"{method} rewrote weights of the base, which its own language and the pictures share. Load the base anew, and "
                    "use a method that leaves it alone: DASD, LORA, FULL."
                )
            undo.pop_all()
        self.train(self.training)

    def _forget(self, code: str, adapter: PeftConfig) -> None:
        """Remove an adapter, or what a failed injection left of it."""
        getattr(self.base, "peft_config", {}).pop(code, None)
        trained = [parameter for parameter in self.base.parameters() if parameter.requires_grad]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
            delete_adapter(self.base, code, prefix=PEFT_TYPE_TO_PREFIX_MAPPING[PeftType(adapter.peft_type)])
        # peft makes another adapter the active one, and thereby trainable
        self.base.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)

    def delete_language(self, code: str) -> None:
        """Remove a language and its weights."""
        self.known_language(code)
        with self.shelf.alone():
            self.shelf.places.pop(code, None)
            if code in self.config.languages:
                self.take_language(code)
        if self.active_language == code:
            self.active_language = next(iter(self.languages), None)

    def put_language(self, code: str, place: Place) -> None:
        """Load a language from its place."""
        load_language(self, code, place.language, place.fetch(code), **elsewhere(place.hub))

    def take_language(self, code: str) -> None:
        """Unload a language; one that came from somewhere stays known, and is loaded again when it is asked for."""
        self._forget(code, self.base.peft_config[code])
        for parts in (self.vocabularies, self.heads):
            if code in parts:
                del parts[code]
        del self.config.languages[code]
        if self.processor is not None:
            self.processor.remove_language(code)

    def may_leave(self, code: str) -> bool:
        """Whether nothing would be lost if a language that came from somewhere were unloaded: none of it is in training."""
        parts: list[nn.Module] = [owner[code] for owner in (self.vocabularies, self.heads) if code in owner]
        for layer in self._tuner_layers():
            owners = [getattr(layer, name) for name in layer.adapter_layer_names]
            parts += [owner[code] for owner in owners if code in owner]
        return not any(parameter.requires_grad for part in parts for parameter in part.parameters())

    def add_auxiliary(self, name: str, like: str) -> None:
        """Add a copy of a language's network, for a method that trains a teacher beside it.

        It is no language: it cannot be chosen, and it is never saved.
        """
        self.known_language(like)
        if name in self.auxiliary or name in self.config.languages:
            raise LanguageError(f"{name!r} is taken.")
        adapter = copy.deepcopy(self.base.peft_config[like])
        self.inject(adapter, name)
        for layer in self._tuner_layers():
            for parts in (getattr(layer, part) for part in layer.adapter_layer_names):
                # a language that was trained, or started from another one, has a table and a head that fit its own blocks
                if like in parts and isinstance(parts[like], nn.Module):
                    parts[name].load_state_dict(parts[like].state_dict())
                elif like in parts:
                    parts[name].data.copy_(parts[like].data)
        for parts in (self.vocabularies, self.heads):
            if like in parts:
                parts[name] = copy.deepcopy(parts[like])
        self.auxiliary[name] = like

    def remove_auxiliary(self, name: str) -> None:
        """Remove such a network, which leaves no trace."""
        del self.auxiliary[name]
        self._forget(name, self.base.peft_config[name])
        for parts in (self.vocabularies, self.heads):
            if name in parts:
                del parts[name]

    # -------------------------------------------------------------------------------------------------- languages

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that can be used: those in memory, and those that are loaded on first use."""
        return [*self.config.languages, *(code for code in self.shelf.places if code not in self.config.languages)]

    @property
    def loaded_languages(self) -> list[str]:
        """Codes of the languages in memory."""
        return list(self.config.languages)

    @property
    def max_languages(self) -> int | None:
        """Most languages in memory; those not used for longest leave, unless they were added or trained here."""
        return self.shelf.most

    @max_languages.setter
    def max_languages(self, most: int | None) -> None:
        self.shelf.most = most
        self.shelf.make_room(self)

    def language_config(self, code: str) -> LanguageConfig:
        """What a language adds to the base, whether it is in memory or not."""
        known = self.known_language(code)
        found: LanguageConfig = self.config.languages.get(known) or self.shelf.places[known].language
        return found

    @property
    def modalities(self) -> list[str]:
        """What the model encodes."""
        towers = [name for name in ("image", "video") if hasattr(self.base, f"get_{name}_features")]
        return ["text", *towers]

    @property
    def embedding_dim(self) -> int:
        """Width of the shared space, `d`."""
        return embedding_dim_of(self.base.config, find_text_encoder(self.base).config)

    def set_language(self, code: str | None) -> None:
        """Choose the language of captions that come without one; `None` or `"en"` is the base."""
        self.active_language = self.resolve_language(code)

    @contextmanager
    def language(self, code: str | None) -> Iterator[Self]:
        """Choose a language for a while: `with model.language("de"): ...`.

        For all threads: where several encode, name the language in the call.
        """
        before = self.active_language
        self.set_language(code)
        try:
            yield self
        finally:
            self.active_language = before

    def known_language(self, code: str) -> str:
        """The code, if it has an adapter; else an error that lists those there are."""
        if code not in self.config.languages and code not in self.shelf.places:
            raise LanguageError(
                f"Language {code!r} has no adapter. Loaded: {', '.join(sorted(self.languages)) or 'none'}. Load one with "
                "CCRModel.from_pretrained(folder) or load_language(folder), or pass language=None for the base."
            )
        return code

    def resolve_language(self, code: str | None) -> str | None:
        """The language that a code means: `"active"` the chosen one, `None` and `"en"` the base (`None`)."""
        if code is None or (code in BASE_LANGUAGES and code not in self.languages):
            return None
        return self.active_language if code == "active" else self.known_language(code)

    def disentangles(self, code: str) -> bool:
        """Whether a language's adapter is dynamic, and so makes disentangled features."""
        return self.conditions_on(code) != "nothing"

    def conditions_on(self, code: str) -> str:
        """Which features a language's weights are made from: `DASDConfig.condition_on`; `"nothing"` where there are none."""
        self.shelf.load(self, self.known_language(code))
        config = getattr(self.base, "peft_config", {}).get(code)
        return config.condition_on if isinstance(config, DASDConfig) and config.disentangles else "nothing"

    def copies_projection(self, code: str) -> bool:
        """Whether a language's adapter trains a copy of the base's last LayerNorm and projection."""
        self.shelf.load(self, self.known_language(code))
        config = getattr(self.base, "peft_config", {}).get(code)
        return isinstance(config, FullConfig) and config.head

    def trainable(self, code: str) -> list[nn.Parameter]:
        """Make the parameters of one language trainable, and of what trains it; freeze all others, and return them."""
        self.shelf.load(self, self.known_language(code))
        self.shelf.places.pop(code, None)  # what is trained is nowhere else
        self.requires_grad_(False)
        names = [code, *self.auxiliary]
        for layer in self._tuner_layers():
            layer.set_adapter(names)
        for name in names:
            if name in self.vocabularies:
                table: Any = self.vocabularies[name]
                table.requires_grad_(True)
                table.table.weight.requires_grad_(table.config.train == "all")
            if name in self.heads:
                self.heads[name].requires_grad_(True)
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

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

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen base keeps its dropout off, so that its targets stand still."""
        super().train(mode)
        if mode and self.base_frozen:
            _keep_still(self.base)
        return self

    def base_sha256(self) -> str:
        """Hash of the base's weights, as they were before they were rounded to float16, where that is known."""
        if self.base.dtype == torch.float16 and self.verified_sha256 is not None:
            return self.verified_sha256
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


def _check_tokenizer(tokenizer: Any, vocabulary: VocabularyConfig | None, processor: CCRProcessor | None) -> None:
    """Refuse a vocabulary without its tokenizer, and a tokenizer that nothing would keep."""
    if tokenizer is None and vocabulary is not None:
        raise ConfigError("A vocabulary needs the `tokenizer` that makes its ids.")
    if tokenizer is not None and processor is None:
        raise ConfigError(
            "The model has no processor to keep the language's `tokenizer`. Give it the base's: from_base(model, "
            "processor=CCRProcessor(...))."
        )


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


# what a LoRA may say, and how its weights may start
_LORA = {
    *("r", "lora_alpha", "lora_dropout", "lora_bias", "use_rslora", "use_dora", "fan_in_fan_out", "init_lora_weights"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern"),
    "runtime_config",
}
_LORA_STARTS = (True, False, "gaussian", "orthogonal")


def _refuse_changes_of_the_base(adapter: PeftConfig) -> None:
    """Refuse what would train or rewrite parts of the base, which its own language and the pictures share."""
    keys = ("modules_to_save", "trainable_token_indices", "layer_replication")
    changes = [name for name in keys if getattr(adapter, name, None)]
    changes += ["bias"] if getattr(adapter, "bias", "none") not in (None, "none") else []
    could = "would"
    if not changes and isinstance(adapter, LoraConfig) and PeftType(adapter.peft_type) is PeftType.LORA:
        # some starts and variants split the base's weights between base and adapter, one of them at the first caption, and
        # new ones come with each version of peft: what is not known to leave the base alone is refused
        plain, could = LoraConfig(), "could"
        own = {field.name for field in fields(adapter)} - {field.name for field in fields(PeftConfig)} - _LORA
        changes += sorted(name for name in own if getattr(adapter, name) != getattr(plain, name))
        changes += ["init_lora_weights"] if adapter.init_lora_weights not in _LORA_STARTS else []
    if changes:
        raise ConfigError(
            f"`{changes[0]}={getattr(adapter, changes[0])!r}` {could} change the base, and with it the captions of its own "
            "language. Leave it out."
        )
