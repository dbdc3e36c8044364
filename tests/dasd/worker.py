"""One of the processes of test_processes.py: trains adapters for a few steps on its share of each batch.

Usage: worker.py RANK WORLD ADDRESS OUTPUT
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from peft import get_peft_model
from safetensors.torch import save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import BertConfig, BertModel

from ccr_adapters.dasd import DASDConfig

STEPS, ROWS, LENGTH = 4, 8, 9


def main(rank: int, world: int, address: str, output: str) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 3}
    base = BertModel(BertConfig(vocab_size=60, max_position_embeddings=16, **sizes), add_pooling_layer=False)
    model: nn.Module = get_peft_model(base.eval(), DASDConfig(r=4, generator_rank=3), adapter_name="de")
    model.add_adapter("cs", DASDConfig(r=3, mode="static"))
    for name, parameter in model.named_parameters():
        if "dasd_" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
            parameter.requires_grad_(True)
    ids = torch.randint(4, 60, (STEPS, ROWS, LENGTH))
    mask = (torch.arange(LENGTH) < torch.randint(3, LENGTH + 1, (STEPS, ROWS, 1))).long()
    goal = torch.randn(STEPS, ROWS, 16)
    names = ["de", "cs", "de", "__base__"] * (ROWS // 4)
    mine = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    trained = model
    if world > 1:
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
        trained = DistributedDataParallel(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(STEPS):
        optimizer.zero_grad()
        batch = {"input_ids": ids[step, mine], "attention_mask": mask[step, mine]}
        states = trained(**batch, adapter_names=names[mine]).last_hidden_state
        (states[:, 0] - goal[step, mine]).square().mean().backward()
        optimizer.step()
    save_file({name: p.detach().clone() for name, p in model.named_parameters() if "dasd_" in name}, output)
    if world > 1:
        dist.barrier()  # the first process holds the store that the second still speaks to
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
