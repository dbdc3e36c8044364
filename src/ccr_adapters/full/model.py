"""The tuner: finds the blocks and the head of a text encoder and puts copies beside them, and answers to peft's verbs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from peft.config import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from ccr_adapters.dasd.anatomy import TextEncoder, find_text_encoder
from ccr_adapters.full.config import FullConfig
from ccr_adapters.full.layer import UNMERGEABLE, FullLayer
from ccr_adapters.full.register import PREFIX

# What follows the blocks: in the text module the last LayerNorm (CLIP, SigLIP) and SigLIP's projection, and CLIP's
# projection in a model around it. BERT's pooler is not on the way into a shared space.
_IN_TEXT_MODULE = ("final_layer_norm", "head")
_AROUND = "text_projection"

# names of modules inside a wrapper
_PARTS = frozenset({"base_layer", f"{PREFIX}copy"})


def head_names(model: nn.Module, encoder: TextEncoder) -> list[str]:
    """Full names of the modules between the last block and the shared space, in the order in which they run.

    Args:
        model: The model that the encoder was found in.
        encoder: The encoder.

    Returns:
        Names of what there is, which for BERT is nothing.
    """
    parts = encoder.name.split(".") if encoder.name else []
    places = [(*parts, name) for name in _IN_TEXT_MODULE]
    places += [(*parts[:depth], _AROUND) for depth in range(len(parts), -1, -1)]
    found = []
    for place in places:
        module: Any = model
        for part in place:
            module = getattr(module, part, None)
        if isinstance(module, nn.Module):
            found.append(".".join(place))
    return found


class FullModel(BaseTuner):
    """Full fine-tuning of chosen blocks of a text encoder, beside a base that stays as it is.

    Args:
        model: A text encoder of transformers, or a dual encoder that contains one.
        config: The configuration.
        adapter_name: Name of the adapter, `"default"` unless said otherwise.

    Example:
        >>> from peft import get_peft_model
        >>> from transformers import CLIPTextConfig, CLIPTextModel
        >>> from ccr_adapters import FullConfig
        >>> encoder = CLIPTextModel(CLIPTextConfig(num_hidden_layers=2))
        >>> model = get_peft_model(encoder, FullConfig(layers_to_transform=[1]))
        >>> model.print_trainable_parameters()  # doctest: +SKIP

    Several languages share one encoder, each with copies of its own; one runs at a time.
    """

    prefix: str = PREFIX
    tuner_layer_cls = FullLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - as in peft

    # ------------------------------------------------------------------------------------------------- injection

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> PeftConfig:
        if peft_config.target_modules is None:
            encoder = find_text_encoder(self.model)
            names, chosen = encoder.block_names, peft_config.layers_to_transform
            if chosen is not None:
                indices = sorted({chosen} if isinstance(chosen, int) else set(chosen))
                if indices and indices[-1] >= len(names):
                    raise ValueError(
                        f"`layers_to_transform` is {chosen}; the encoder has blocks 0 to {len(names) - 1}."
                    )
                names = [names[index] for index in indices]
            if peft_config.head:
                names = names + head_names(self.model, encoder)
            if not names:
                head = "the encoder has no head" if peft_config.head else "`head` is False"
                raise ValueError(f"`layers_to_transform` is {chosen} and {head}, so there is nothing to train.")
            peft_config.target_modules = set(names)
            # the names say it all now, and peft refuses both at once
            peft_config.layers_to_transform = None
        prepared: PeftConfig = peft_config
        return prepared

    def _prepare_model(self, peft_config: FullConfig, model: nn.Module) -> None:  # type: ignore[override]
        # All checks before the first module is replaced: a failed call leaves the model as it was.
        encoder = find_text_encoder(model)
        allowed = [*encoder.block_names, *head_names(model, encoder)]
        # names as they are without our wrappers, which come before what they wrap
        modules: dict[str, nn.Module] = {}
        for name, module in model.named_modules():
            if name and f".{PREFIX}copy" not in name:
                inner = module.base_layer if isinstance(module, FullLayer) else module
                modules.setdefault(name.replace(".base_layer", ""), inner)
        matched = [name for name in modules if self._check_target_module_exists(peft_config, name)]
        others = [name for name in matched if name not in allowed]
        if others or not matched:
            found = f"{', '.join(others[:3])}, which is no block" if others else "no block"
            raise ValueError(
                f"`target_modules` {peft_config.target_modules!r} matches {found} and no part of the head of the text "
                f"encoder. Those are {allowed[0]} to {', '.join(allowed[len(encoder.blocks) - 1 :])}."
            )
        for name in matched:
            module = modules[name]
            if any(isinstance(part, BaseTunerLayer) for part in module.modules()):
                raise ValueError(
                    f"'{name}' carries adapters of another method, which a copy would take along. Start from the plain "
                    "base (`unload()`)."
                )
            if not all(parameter.is_floating_point() for parameter in module.parameters()):
                raise ValueError(f"'{name}' is quantised and cannot be trained. Load the base without quantisation.")

    def _create_and_replace(  # type: ignore[override]
        self,
        peft_config: FullConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        layer = target if isinstance(target, FullLayer) else FullLayer(target)
        layer.update_layer(adapter_name)
        if layer is not target:
            setattr(parent, target_name, layer)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Wrap the modules; see `peft.tuners.tuners_utils.BaseTuner.inject_adapter`."""
        # peft tells the adapters of a state dict apart by their names between dots, and would drop weights
        there = {name for module in model.modules() if isinstance(module, FullLayer) for name in module.full_copy}
        parts = {part for key in model.state_dict() for part in key.split(".")} | _PARTS
        # a `ModuleDict` refuses the names of its own attributes, when it is too late
        if adapter_name in parts - there or "." in adapter_name or hasattr(nn.ModuleDict(), adapter_name):
            raise ValueError(
                f"An adapter cannot be called {adapter_name!r}: a part of the model has that name, or it contains a dot."
            )
        super().inject_adapter(model, adapter_name, *args, **kwargs)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        # as in `ln_tuning`: a copy in another precision than its neighbours could not take their states
        pass

    # --------------------------------------------------------------------------------------------- state dict keys

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # the copies are modules with weights of their own, so the adapter's name stands in the middle of the key
        return re.sub(rf"(\.{PREFIX}copy)\.{re.escape(adapter_name)}\.", r"\1.", key)

    # ------------------------------------------------------------------------------------------------- peft verbs

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Choose the adapter whose copies run.

        Raises:
            ValueError: If more than one is named.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        if len(names) > 1:
            raise ValueError(f"One fully fine-tuned adapter can be active at a time, not {names}.")
        super().set_adapter(adapter_name, inference_mode=inference_mode)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        if kwargs.get("adapter_names") is not None:
            # `PeftModel.forward` would drop the names and run all rows through the active adapter
            raise ValueError(
                "`adapter_names` is not known to fully fine-tuned adapters: a batch runs through one of them. Choose it "
                "with `set_adapter`, and split a batch in several languages."
            )
        yield

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> NoReturn:
        """Refuse: see the message."""
        raise ValueError(UNMERGEABLE)

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = False, adapter_names: list[str] | None = None
    ) -> nn.Module:
        """Give a plain model with one adapter's copies in the place of the base's modules.

        Args:
            progressbar: Show a bar.
            safe_merge: Refuse copies with values that are not finite.
            adapter_names: The adapter; `None` takes the active one.

        Raises:
            ValueError: If it is not one adapter, or it is broken; nothing has changed then.
        """
        names = self.active_adapters if adapter_names is None else adapter_names
        if len(names) != 1 or names[0] not in self.peft_config:
            raise ValueError(
                f"One adapter can be merged, not {names or 'none'}. There are: {', '.join(self.peft_config) or 'none'}."
            )
        if safe_merge:
            for name, parameter in self.model.named_parameters():
                if f".{PREFIX}copy.{names[0]}." in name and not torch.isfinite(parameter).all():
                    raise ValueError(f"Adapter {names[0]!r} seems to be broken: {name} has values that are not finite.")
        return super().merge_and_unload(progressbar=progressbar, safe_merge=safe_merge, adapter_names=adapter_names)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # peft's own would put the base's weights into the copy
        setattr(parent, child_name, new_module)
