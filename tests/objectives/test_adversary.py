"""The adversary: whom its gradients reach, and that both sides learn what they should."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from ccr_adapters.errors import TrainingError
from ccr_adapters.objectives import PairDiscriminator, adversarial_loss, adversary, discriminator_loss


def pairs(rows: int = 6, d: int = 4):
    return torch.randn(rows, d, requires_grad=True), torch.randn(rows, d, requires_grad=True)


def silent(d: int = 4) -> PairDiscriminator:
    """A discriminator that answers 'even' to everything."""
    disc = PairDiscriminator(d)
    for parameter in disc.parameters():
        torch.nn.init.zeros_(parameter)
    return disc


def test_the_sizes_are_the_papers():
    shapes = [tuple(p.shape) for p in PairDiscriminator(512).parameters() if p.ndim == 2]
    assert shapes == [(256, 1024), (128, 256), (1, 128)]


def test_a_discriminator_that_knows_nothing_gives_log_2():
    terms = adversary(silent(), *pairs(), weight=1.0)
    assert terms["discriminator"].item() == pytest.approx(math.log(2))
    assert terms["adversarial"].item() == pytest.approx(math.log(2))


def test_the_discriminator_term_reaches_only_the_discriminator():
    disc, (f_sa, g) = PairDiscriminator(4), pairs()
    adversary(disc, f_sa, g)["discriminator"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in disc.parameters())
    assert f_sa.grad is None
    assert g.grad is None


def test_the_adversarial_term_reaches_only_f_sa():
    disc, (f_sa, g) = PairDiscriminator(4), pairs()
    adversary(disc, f_sa, g)["adversarial"].backward()
    assert f_sa.grad.abs().sum() > 0
    assert g.grad is None
    assert all(parameter.grad is None for parameter in disc.parameters())


def test_one_backward_pass_gives_both_gradients_unmixed():
    disc, (f_sa, g) = PairDiscriminator(4), pairs()
    generator = torch.Generator().manual_seed(3)
    sum(adversary(disc, f_sa, g, weight=0.5, generator=generator).values()).backward()
    expected_disc = torch.autograd.grad(
        discriminator_loss(disc, f_sa, g, generator.manual_seed(3)), list(disc.parameters())
    )
    (expected_f_sa,) = torch.autograd.grad(0.5 * adversarial_loss(disc, f_sa, g), [f_sa])
    assert torch.allclose(f_sa.grad, expected_f_sa)
    for parameter, expected in zip(disc.parameters(), expected_disc, strict=True):
        assert torch.allclose(parameter.grad, expected)


def test_the_losses_by_hand_with_two_rows():
    # Two rows can only be shuffled one way.
    disc, (f_sa, g) = PairDiscriminator(4), pairs(rows=2)
    true, swapped = disc(f_sa, g), disc(f_sa, g.flip(0))
    expected = (-F.logsigmoid(true).mean() - F.logsigmoid(-swapped).mean()) / 2
    assert torch.allclose(discriminator_loss(disc, f_sa, g), expected)
    assert torch.allclose(adversarial_loss(disc, f_sa, g), -F.logsigmoid(-true).mean())


def test_no_row_keeps_its_place_when_shuffled():
    seen = set()

    class Spy(PairDiscriminator):
        def forward(self, f_sa, g):
            seen.add(tuple((g[:, 0] - f_sa[:, 0]).round().int().tolist()))
            return super().forward(f_sa, g)

    rows = torch.arange(5.0)[:, None].expand(5, 4)
    disc = Spy(4)
    for _ in range(60):
        discriminator_loss(disc, rows, rows)
    true, shuffled = (0,) * 5, [shift for shift in seen if any(shift)]
    assert true in seen
    assert len(shuffled) == 4  # every roll occurs
    assert all(0 not in shift for shift in shuffled)


def test_another_caption_of_the_same_picture_is_no_shuffled_pair():
    disc, (f_sa, g) = PairDiscriminator(4), pairs(rows=2)
    together = discriminator_loss(disc, f_sa, g, ids=torch.tensor([3, 3]))
    assert torch.allclose(together, -F.logsigmoid(disc(f_sa, g)).mean() / 2)
    apart = discriminator_loss(disc, f_sa, g, ids=torch.tensor([3, 4]))
    assert torch.allclose(apart, discriminator_loss(disc, f_sa, g))


def test_a_generator_repeats_the_shuffle():
    disc, (f_sa, g) = PairDiscriminator(4), pairs(rows=50)
    losses = [discriminator_loss(disc, f_sa, g, torch.Generator().manual_seed(s)).item() for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_a_batch_of_one_has_nothing_to_shuffle():
    terms = adversary(PairDiscriminator(4), *pairs(rows=1))
    assert {name: term.item() for name, term in terms.items()} == {"discriminator": 0, "adversarial": 0}
    assert not any(term.requires_grad for term in terms.values())


def test_half_precision_features_meet_a_float32_discriminator():
    f_sa, g = (rows.detach().bfloat16() for rows in pairs())
    terms = adversary(PairDiscriminator(4), f_sa, g)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())


def test_the_discriminator_learns_to_tell_and_the_encoder_learns_to_hide():
    g = F.normalize(torch.randn(64, 4), dim=-1)
    disc, mix = PairDiscriminator(4), torch.nn.Linear(4, 4)
    torch.nn.init.eye_(mix.weight)  # f_sa is g at first: all meaning
    tell = torch.optim.Adam(disc.parameters(), lr=3e-3)
    for _ in range(150):
        tell.zero_grad()
        discriminator_loss(disc, mix(g), g).backward()
        tell.step()
    assert discriminator_loss(disc, mix(g), g) < 0.45
    before = adversarial_loss(disc, mix(g), g).item()
    hide = torch.optim.Adam(mix.parameters(), lr=1e-2)
    for _ in range(50):
        hide.zero_grad()
        adversarial_loss(disc, mix(g), g).backward()
        hide.step()
    assert adversarial_loss(disc, mix(g), g).item() < 0.5 * before


@pytest.mark.parametrize("term", [discriminator_loss, adversarial_loss, adversary])
def test_shapes_that_do_not_fit(term):
    with pytest.raises(TrainingError, match=r"\(3, 4\) and \(2, 4\)"):
        term(PairDiscriminator(4), torch.ones(3, 4), torch.ones(2, 4))
