"""The tuner: finds the blocks of a text encoder and wraps them, and answers to the verbs of peft."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from peft.config import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from ccr_adapters.dasd.anatomy import TextEncoder, embedding_dim_of, find_text_encoder, width_of
from ccr_adapters.dasd.condition import BASE, hook_text_module, unhook_text_module
from ccr_adapters.dasd.config import DASDConfig, Pooling
from ccr_adapters.dasd.families import LEGACY_END
from ccr_adapters.dasd.layer import UNMERGEABLE, DASDLayer
from ccr_adapters.dasd.register import PREFIX

# names of modules inside an adapter
_PARTS = frozenset({"down", "up", "condition", "mixture", "cores", "weight", "bias"}) | {
    f"{feature}_{part}" for feature in ("related", "agnostic") for part in ("norm", "head")
}


def _with_adapter_names(
    module: nn.Module, args: Any, kwargs: dict[str, Any] | None = None, *, names: list[str], thread: int
) -> tuple[Any, Any] | None:
    # another thread may be in the same module with names of its own, or with none
    return (args, {**(kwargs or {}), "adapter_names": names}) if threading.get_ident() == thread else None


class DASDModel(BaseTuner):
    """Dynamic adapters after the blocks of a frozen text encoder (Cai et al., AAAI 2025, arXiv 2412.13510).

    Args:
        model: A text encoder of transformers, or a dual encoder that contains one.
        config: The configuration.
        adapter_name: Name of the adapter, `"default"` unless said otherwise.

    Example:
        >>> from peft import get_peft_model
        >>> from transformers import CLIPTextConfig, CLIPTextModel
        >>> from ccr_adapters import DASDConfig
        >>> encoder = CLIPTextModel(CLIPTextConfig(num_hidden_layers=2))
        >>> model = get_peft_model(encoder, DASDConfig())
        >>> model.print_trainable_parameters()  # doctest: +SKIP

    Several languages share one encoder: `add_adapter` for each, then either `set_adapter`, or `adapter_names=[...]`
    with one name a caption in the call itself (`"__base__"` for none).
    """

    prefix: str = PREFIX
    tuner_layer_cls = DASDLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - as in peft

    # ------------------------------------------------------------------------------------------------- injection

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> PeftConfig:
        if peft_config.target_modules is None:
            names = find_text_encoder(self.model).block_names
            chosen = peft_config.layers_to_transform
            if chosen is not None:
                indices = [chosen] if isinstance(chosen, int) else list(chosen)
                wrong = [index for index in indices if not 0 <= index < len(names)]
                if wrong or not indices:
                    raise ValueError(
                        f"`layers_to_transform` is {chosen}; the encoder has blocks 0 to {len(names) - 1}."
                    )
                names = [names[index] for index in sorted(indices)]
                # the names say it all now, and peft refuses both at once
                peft_config.layers_to_transform = None
            elif peft_config.adapt_from >= len(names):
                raise ValueError(
                    f"`adapt_from` is {peft_config.adapt_from}; the encoder has blocks 0 to {len(names) - 1}."
                )
            else:
                names = names[peft_config.adapt_from :]
            peft_config.target_modules = set(names)
        prepared: PeftConfig = peft_config
        return prepared

    def _prepare_model(self, peft_config: DASDConfig, model: nn.Module) -> None:  # type: ignore[override]
        # All checks before the first block is replaced: a failed call leaves the model as it was.
        encoder = find_text_encoder(model)
        targets = [name for name in encoder.block_names if self._check_target_module_exists(peft_config, name)]
        others = [
            name
            for name, module in model.named_modules()
            if name not in encoder.block_names
            and not isinstance(module, BaseTunerLayer)
            and not any(name.startswith(f"{block}.") for block in encoder.block_names)
            and self._check_target_module_exists(peft_config, name)
        ]
        if others:
            raise ValueError(
                f"`target_modules` matches {', '.join(others[:3])}, which is no block of the text encoder. DASD adapts "
                f"whole blocks: {encoder.blocks_name}.0 to {encoder.block_names[-1]}."
            )
        if not targets:
            raise ValueError(
                f"`target_modules` {peft_config.target_modules!r} matches no block of the text encoder; its blocks are "
                f"{encoder.blocks_name}.0 to {encoder.block_names[-1]}."
            )
        first = encoder.block_names.index(targets[0])
        if peft_config.mode == "dynamic":
            if peft_config.prefix_blocks > len(encoder.blocks):
                raise ValueError(
                    f"`prefix_blocks` is {peft_config.prefix_blocks}, but the encoder has {len(encoder.blocks)} blocks."
                )
            if first > peft_config.prefix_blocks:
                raise ValueError(
                    f"The first adapted block is {first}, behind the {peft_config.prefix_blocks} blocks that the condition "
                    f"looks through. Adapt from block {peft_config.prefix_blocks} or earlier, or raise `prefix_blocks`."
                )
            pooling, token_id = self._pooling(peft_config, encoder)
            if pooling == "eos" and token_id is None and encoder.anatomy.pooling != "eos":
                raise ValueError(
                    "`sr_pooling='eos'` needs a `pooling_token_id`: the configuration of this encoder names no end token."
                )
        self._encoder, self._targets = encoder, targets

    def _create_and_replace(  # type: ignore[override]
        self,
        peft_config: DASDConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        encoder: TextEncoder = self._encoder
        if isinstance(target, DASDLayer):
            layer = target
        else:
            bases = [block.base_layer if isinstance(block, DASDLayer) else block for block in encoder.blocks]
            layer = DASDLayer(target, bases, position=encoder.block_names.index(current_key))
        pooling, token_id = self._pooling(peft_config, encoder)
        layer.update_layer(
            adapter_name,
            peft_config,
            width=width_of(encoder.config),
            embedding_dim=peft_config.embedding_dim
            or embedding_dim_of(getattr(self.model, "config", None), encoder.config),
            index=self._targets.index(current_key),
            count=len(self._targets),
            pooling=pooling,
            token_id=token_id,
        )
        if layer is not target:
            setattr(parent, target_name, layer)
        hook_text_module(encoder.module, encoder.carrier)

    @staticmethod
    def _pooling(config: DASDConfig, encoder: TextEncoder) -> tuple[Pooling, int | None]:
        pooling = config.sr_pooling or encoder.anatomy.pooling
        token_id = config.pooling_token_id
        if token_id is None and pooling == "eos":
            token_id = getattr(encoder.config, "eos_token_id", None)
            if encoder.anatomy.legacy_end and token_id == LEGACY_END:
                token_id = None
        return pooling, token_id

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Wrap the blocks; see `peft.tuners.tuners_utils.BaseTuner.inject_adapter`."""
        if adapter_name == BASE or "." in adapter_name:
            raise ValueError(f"An adapter cannot be called {adapter_name!r}: the name is reserved, or contains a dot.")
        # peft tells the adapters of a state dict apart by their names between dots, and would drop weights
        layers = [module for module in model.modules() if isinstance(module, DASDLayer)]
        there = {name for layer in layers for name in layer.dasd_settings}
        parts = {part for key in model.state_dict() for part in key.split(".")} | _PARTS
        if adapter_name in parts - there:
            raise ValueError(f"An adapter cannot be called {adapter_name!r}: a part of the model has that name.")
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        # they hold modules, and were needed only while wrapping
        del self._encoder, self._targets

    # --------------------------------------------------------------------------------------------- state dict keys

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # the parts are modules with weights of their own, so the adapter's name stands in the middle of the key
        return re.sub(rf"(\.{PREFIX}[a-z]+)\.{re.escape(adapter_name)}\.", r"\1.", key)

    # ------------------------------------------------------------------------------------------------- peft verbs

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Choose the adapter that rows without a name of their own meet.

        Raises:
            ValueError: If more than one is named: cores of two adapters do not add up.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        if len(names) > 1:
            raise ValueError(
                f"One DASD adapter can be active at a time, not {names}. For captions in several languages pass "
                "`adapter_names=[...]`, one name a caption."
            )
        super().set_adapter(adapter_name, inference_mode=inference_mode)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        # `PeftModel.forward(..., adapter_names=[...])` drops the names before it calls the base model; they are handed
        # to the text module, whose hook puts them into the condition. Training with them works too.
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        unknown = sorted(set(names) - set(self.peft_config) - {BASE})
        if unknown:
            raise ValueError(
                f"Trying to infer with non-existing adapter(s): {', '.join(unknown)}. There are: {', '.join(self.peft_config)}."
            )
        module = find_text_encoder(self.model).module
        # in front of the hook that makes the condition
        handle = module.register_forward_pre_hook(
            partial(_with_adapter_names, names=list(names), thread=threading.get_ident()),
            prepend=True,
            with_kwargs=True,
        )
        try:
            yield
        finally:
            handle.remove()

    def _check_merge_allowed(self) -> NoReturn:
        raise ValueError(UNMERGEABLE)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)

    def unload(self) -> nn.Module:
        """Give the plain base model back, without adapters and hooks."""
        encoder = find_text_encoder(self.model)
        model = super().unload()
        unhook_text_module(encoder.module, encoder.carrier)
        return model
