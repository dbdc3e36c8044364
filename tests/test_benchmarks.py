"""The parts of the benchmark on real captions that need no data to be tested."""

from __future__ import annotations

import argparse
import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ccr_adapters.cli.train import check_recipe
from ccr_adapters.errors import DataError
from ccr_adapters.evaluation import evaluate_retrieval

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def multi30k(programs):
    """The benchmark as a module."""
    return programs("multi30k")


CAPTIONS = [" ".join(f"w{i}x{j}" for j in range(10)) for i in range(300)]


def test_corruption_is_repeatable_and_touches_the_share_of_words(multi30k):
    found = multi30k.corrupted(CAPTIONS, 0.2)
    assert found == multi30k.corrupted(CAPTIONS, 0.2)
    assert found != multi30k.corrupted(CAPTIONS, 0.2, seed=1)
    dropped = replaced = moved = 0
    for before, after in zip(CAPTIONS, found, strict=True):
        own, left = before.split(), after.split()
        kept = [word for word in left if word in own]
        replaced += len(left) - len(kept)
        dropped += len(own) - len(left)
        moved += kept != sorted(kept)
    assert dropped == pytest.approx(200, abs=50)  # a third of 0.2 x 3,000 words each
    assert replaced == pytest.approx(200, abs=50)
    assert moved == pytest.approx(150, abs=60)  # captions, of which some have two


def test_no_corruption_and_full_corruption(multi30k):
    assert multi30k.corrupted(CAPTIONS, 0.0) == CAPTIONS
    everything = multi30k.corrupted(CAPTIONS, 1.0)
    assert not set(everything) & set(CAPTIONS)
    alone = ["Hund"] * 200
    assert all(multi30k.corrupted(alone, 1.0))  # a caption never becomes empty
    assert set(multi30k.corrupted(alone, 1.0)) == {"Hund"}


def test_per_image_adds_up_to_the_sum_of_recalls(multi30k):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 6, generator=generator)
    texts = images + 0.9 * torch.randn(40, 6, generator=generator)
    metrics = evaluate_retrieval(texts, images, torch.arange(40), bootstrap=0)
    found = multi30k.per_image(metrics)
    assert found.shape == (40,)
    assert found.mean() == pytest.approx(metrics.sum_r)
    scores = torch.nn.functional.normalize(texts, dim=-1) @ torch.nn.functional.normalize(images, dim=-1).T
    for i in range(40):
        ranks = [int((row >= row[i]).sum()) for row in (scores[i], scores[:, i])]
        assert found[i] == sum(100 * (rank <= k) for rank in ranks for k in (1, 5, 10))


def test_per_image_wants_one_caption_a_photograph(multi30k):
    images = torch.eye(3)
    with pytest.raises(DataError, match="One caption a photograph"):
        multi30k.per_image(evaluate_retrieval(images[[0, 0, 1, 2]], images, torch.tensor([0, 0, 1, 2])))


def test_the_interval_covers_the_mean_and_narrows(multi30k):
    noise = np.random.default_rng(0)
    values = noise.normal(50, 10, size=400)
    low, high = multi30k.interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert multi30k.interval(values) == (low, high)
    assert multi30k.interval(np.full(30, 7.0)) == (7.0, 7.0)
    assert multi30k.shown(np.full(30, 7.0)) == "7.0 [7.0, 7.0]"


def folder(home, train=5, held_out=3, width=4):
    """The data folder in small."""
    sizes = {"train": train, "val": held_out, "test": held_out}
    for split, size in sizes.items():
        for language in ("en", "de"):
            with gzip.open(home / f"{split}.{language}.gz", "wt", encoding="utf-8") as file:
                file.writelines(f"{language} {split} {i} ü\n" for i in range(size))
        np.save(home / f"{split}.visual.npy", np.full((size, width), 1.5, dtype=np.float16))
    np.save(home / "val.independent.visual.npy", np.ones((held_out, width), dtype=np.float16))
    for number in range(1, 6):
        with gzip.open(home / f"val.independent.{number}.de.gz", "wt", encoding="utf-8") as file:
            file.writelines(f"andere {number} {i}\n" for i in range(held_out))
    return home


def test_regimes_are_the_same_pairs_for_every_row(multi30k, tmp_path):
    data = folder(tmp_path)
    whole = multi30k.load(data, "all", None)
    assert list(whole.rows["translation"]) == [f"de train {i} ü" for i in range(5)]
    assert set(whole.test) == {"translated", *(f"varied {n}" for n in range(1, 6))}
    assert whole.validation.captions["de"] == [f"de val {i} ü" for i in range(3)]
    assert whole.test["varied 2"].captions["de"][0] == "andere 2 0"
    few = multi30k.load(data, "2900", 3)
    assert list(few.rows["caption"]) == list(multi30k.load(data, "noise", 3).rows["caption"])
    assert len(set(few.rows["caption"])) == 3
    pairs = zip(few.rows["caption"], few.rows["translation"], strict=True)
    assert all(english.split()[2] == german.split()[2] for english, german in pairs)


def test_missing_and_misaligned_files_are_named(multi30k, tmp_path):
    data = folder(tmp_path)
    np.save(data / "test.visual.npy", np.ones((7, 4), dtype=np.float16))
    with pytest.raises(DataError, match="'test': 3 en captions for 7 vectors"):
        multi30k.load(data, "all", None)
    (data / "train.de.gz").unlink()
    with pytest.raises(DataError, match=r"train\.de\.gz' is missing"):
        multi30k.load(data, "all", None)


def test_every_cell_is_a_recipe_that_can_work(multi30k, tmp_path):
    plans = []
    for method in multi30k.METHODS:
        for regime in multi30k.REGIMES:
            assert {regime} <= multi30k.EPOCHS.keys() & multi30k.QUICK_EPOCHS.keys() & multi30k.QUICK_PAIRS.keys()
            plan = multi30k.recipe("base", method, regime, 1, tmp_path, 1.0)
            check_recipe(plan)
            plans.append(plan)
    assert Counter(plan.output_dir for plan in plans).most_common(1)[0][1] == 1
    # what differs between rows is the adapter
    assert len({str((plan.vocabulary, plan.arguments, plan.stages, plan.seed)) for plan in plans}) == 1


def test_differences_are_taken_photograph_by_photograph(multi30k):
    noise = np.random.default_rng(0).normal(0, 100, size=500)
    arrays = {"dasd": noise + 9, "static": noise, "lora": noise + 30}
    cells = [
        {"method": name, "seed": 0, "regime": "all", "arrays": {"translated": array, "varied": array * 0}}
        for name, array in arrays.items()
    ]
    args = argparse.Namespace(regimes=["all", "noise"], seeds=[0, 1])
    static, lora = multi30k.differences(cells, args)
    assert static["translated"] == "+9.0 [+9.0, +9.0] above"
    assert lora["translated"] == "-21.0 [-21.0, -21.0] below"
    assert static["varied"].endswith("tie")
