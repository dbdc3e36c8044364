"""A translation job in a process of its own, to be killed: `worker.py MODEL BACK ROWS OUTPUT LOG`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from ccr_adapters.translation import Translator, translate_dataset


class Noted(Translator):
    """Writes down what it translates, and takes its time."""

    log: Path

    def batches(self, texts, **decoding):
        for rows, translations in super().batches(texts, **decoding):
            with self.log.open("a", encoding="utf-8") as file:
                file.write("".join(f"{texts[row]}\n" for row in rows))
            time.sleep(0.05)
            yield rows, translations


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, back, rows, output, log = sys.argv[1:]
    Noted.log = Path(log)
    translate_dataset(
        rows,
        output,
        Noted.from_pretrained(model, source="en", target="de", device="cpu"),
        Translator.from_pretrained(back, source="de", target="en", device="cpu"),
        batch_size=4,
        num_beams=2,
        max_new_tokens=6,
        part_size=25,
        progress=False,
    )
