"""Where a caption is read: at its end token, whatever its id, and not at the highest id of the row."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model, inject_adapter_in_model
from transformers import CLIPTextConfig, CLIPTextModel

from ccr_adapters.dasd import Condition, DASDConfig
from ccr_adapters.dasd.condition import end_positions
from ccr_adapters.dasd.disentangle import pool

END = 49_407


def clip(eos: int) -> CLIPTextModel:
    """A CLIP tower with a vocabulary of its size, and more words behind its end token."""
    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=49_500,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=12,
        bos_token_id=1,
        eos_token_id=eos,
        pad_token_id=0,
        projection_dim=8,
    )
    return CLIPTextModel(config).eval()


def positions_read(model, ids: torch.Tensor) -> torch.Tensor:
    """At which position each caption was read for `f_sr`."""
    layer = next(module for module in model.modules() if hasattr(module, "dasd_disentangler"))
    seen = []
    name = next(iter(layer.dasd_disentangler))
    handle = layer.dasd_disentangler[name].register_forward_hook(lambda _, args, __: seen.append(args[1]))
    with torch.no_grad():
        model(input_ids=ids)
    handle.remove()
    return seen[0]


# in the first row a word has a higher id than the end token; behind each end there is padding of several kinds
IDS = torch.tensor(
    [
        [1, 49_450, 5, END, 0, 0, 0],
        [1, 5, 6, 7, 8, END, END],
        [1, 9, END, 49_460, 0, 0, 0],
        [1, 7, 8, 9, 10, 11, END],
    ]
)


def test_a_word_above_the_end_token_is_no_end():
    model = get_peft_model(clip(END), DASDConfig(r=4))
    assert positions_read(model, IDS).tolist() == [3, 5, 2, 6]


def test_an_old_configuration_without_its_end_token_pools_as_transformers_does():
    # eos_token_id == 2 marks checkpoints from before transformers 4.31; there the end token is the highest id
    ids = IDS.clone()
    ids[ids > END] = 44
    base = clip(2)
    assert positions_read(get_peft_model(clip(2), DASDConfig(r=4)), ids).tolist() == [3, 5, 2, 6]
    with torch.no_grad():
        output = base(input_ids=ids)
    rows = torch.arange(4)
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state[rows, torch.tensor([3, 5, 2, 6])])


def test_the_end_token_of_another_vocabulary_is_named_in_the_configuration():
    model = get_peft_model(clip(2), DASDConfig(r=4, pooling_token_id=END), adapter_name="de")
    assert positions_read(model, IDS).tolist() == [3, 5, 2, 6]
    other = get_peft_model(clip(END), DASDConfig(r=4, pooling_token_id=9))
    ids = IDS.clone()
    ids[:, 2] = 9
    assert positions_read(other, ids).tolist() == [2, 2, 1, 2]


@pytest.mark.parametrize(
    ("pooling", "expected"), [("first", [0, 0, 0, 0]), ("last", [6, 6, 6, 6]), ("eos", [3, 5, 2, 6]), ("mean", None)]
)
def test_the_place_can_be_chosen(pooling, expected):
    found = positions_read(get_peft_model(clip(END), DASDConfig(r=4, sr_pooling=pooling)), IDS)
    assert found is None if expected is None else found.tolist() == expected


def test_each_adapter_of_a_mixed_batch_reads_its_own_end_token():
    model = inject_adapter_in_model(DASDConfig(r=4), clip(END), adapter_name="de")
    inject_adapter_in_model(DASDConfig(r=4, pooling_token_id=9), model, adapter_name="zh")
    ids = IDS.clone()
    ids[1] = torch.tensor([1, 5, 9, 0, 0, END, 0])
    condition = Condition(ids, None, ["de", "zh", "de", "de"])
    layer = next(module for module in model.modules() if hasattr(module, "dasd_settings"))
    rows = dict(condition.groups(None, torch.device("cpu")))
    known = layer.dasd_settings
    where = {
        name: condition.positions(known[name].pooling, known[name].token_id, own).tolist() for name, own in rows.items()
    }
    assert where == {"de": [3, 2, 6], "zh": [2]}


def test_a_caller_who_knows_the_end_better_is_believed():
    condition = Condition(IDS, pooled_at=torch.tensor([1, 2, 3, 4]))
    assert condition.positions("eos", END, None).tolist() == [1, 2, 3, 4]
    assert condition.positions("eos", END, torch.tensor([2, 0])).tolist() == [3, 1]
    assert condition.positions("mean", None, None) is None
    # the first token is the first token
    assert condition.positions("first", None, torch.tensor([2, 0])).tolist() == [0, 0]


def test_embeddings_alone_do_not_say_where_a_caption_ends(tiny_bert):
    with pytest.raises(ValueError, match=r"called without `input_ids`.*Condition\(pooled_at"):
        Condition(attention_mask=torch.ones(2, 4)).positions("eos", 3, None)
    with pytest.raises(ValueError, match="called without `input_ids`"):
        Condition().positions("first", None, None)
    model = inject_adapter_in_model(DASDConfig(r=4), tiny_bert())
    states = torch.randn(2, 4, 32)
    with torch.no_grad():
        model(inputs_embeds=states, attention_mask=torch.ones(2, 4, dtype=torch.long))  # the first position is known


def test_the_first_end_token_of_a_row_counts():
    ids = torch.tensor([[1, 9, 3, 3, 3], [3, 1, 1, 1, 3], [1, 1, 1, 1, 1]])
    assert end_positions(ids, 3).tolist() == [2, 0, 0]


def test_a_mean_leaves_padding_out():
    states = torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    found = pool(states, None, mask)
    torch.testing.assert_close(found[0], (states[0, 0] + states[0, 1]) / 2)
    assert not found[1].any()  # nothing to read, and no division by zero
    torch.testing.assert_close(pool(states, None, None), states.mean(1))
    torch.testing.assert_close(pool(states, torch.tensor([2, 0]), mask), torch.stack([states[0, 2], states[1, 0]]))
