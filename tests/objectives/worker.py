"""One of the processes of test_processes.py: computes the terms on its share of a batch and writes gradients.

Usage: worker.py RANK STORE OUTPUT ROWS[,ROWS...] all|contrastive

ROWS are the rows that each process holds; a single number means one process without DDP. With `contrastive`
the other terms are left out: means over local rows are means over the batch only if all shares are equal.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ccr_adapters.objectives import (
    PairDiscriminator,
    TokenDiscriminator,
    adversary,
    feature_view,
    info_nce,
    info_nce_one_way,
    language_adversary,
    mse,
    relational,
    relational_to_bank,
    similarity_view,
    triplet,
)
from ccr_adapters.objectives.gather import all_gather_with_grad, local_offset, row_counts


class Everything(nn.Module):
    """Two linear towers, a learned scale and two discriminators, under all objectives at once."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.image = nn.Linear(6, 5), nn.Linear(7, 5)
        self.log_scale = nn.Parameter(torch.tensor(1.5))
        self.disc, self.language = PairDiscriminator(5), TokenDiscriminator(5, 8)

    def forward(self, captions: Tensor, pictures: Tensor, ids: Tensor, bank: Tensor, *, every: bool):
        t, v = self.text(captions), self.image(pictures)
        # The raw rows are the teacher's: other widths, and no gradient to expect.
        terms = {
            "nce": info_nce(t, v, scale=self.log_scale.exp(), ids=ids),
            "triplet": triplet(t, v, margin=0.6, ids=ids),
            "similarity view": similarity_view(pictures[:, :5], t, v, temperature=0.5, ids=ids),
            "relational": relational(captions, pictures[:, :6], v, t, temperature=0.5, ids=ids),
        }
        if every:
            generator = torch.Generator().manual_seed(5)
            terms |= adversary(self.disc, t, v, weight=0.3, generator=generator)
            mask = torch.ones(len(t), 1)
            terms |= language_adversary(self.language, t[:, None], v[:, None], mask, mask, weight=0.3)
            terms |= {"bank": info_nce_one_way(t, bank, ids, 3.0), "mse": mse(t, v), "feature view": feature_view(t, v)}
            terms["relational to bank"] = relational_to_bank(t, v, bank, scale=3.0)
        else:
            unused = [*self.disc.parameters(), *self.language.parameters()]
            terms["unused"] = 0.0 * sum(parameter.sum() for parameter in unused)
        return terms


def main(rank: int, store: str, output: str, shares: list[int], *, every: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    model: nn.Module = Everything()
    rows = sum(shares)
    captions, pictures, bank = torch.randn(rows, 6), torch.randn(rows, 7), torch.randn(rows, 5)
    ids = torch.arange(rows) // 2  # neighbours show one picture, also where a process ends
    mine = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    if len(shares) > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=len(shares))
        model = DistributedDataParallel(model)
    terms = model(captions[mine], pictures[mine], ids[mine], bank, every=every)
    sum(terms.values()).backward()
    local = captions[mine]
    found = {
        "terms": {name: term.item() for name, term in terms.items()},
        "gradients": {name.removeprefix("module."): p.grad.tolist() for name, p in model.named_parameters()},
        "gathered": torch.equal(all_gather_with_grad(local), captions),
        "offset": local_offset(local),
        "counts": row_counts(local),
    }
    Path(output).write_text(json.dumps(found), encoding="utf-8")
    if len(shares) > 1:
        dist.barrier()
        dist.destroy_process_group()
        # Not by way of the interpreter's own end: threads of gloo that outlive it abort the process now and then.
        os._exit(0)


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        sys.argv[2],
        sys.argv[3],
        [int(n) for n in sys.argv[4].split(",")],
        every=sys.argv[5] == "all",
    )
