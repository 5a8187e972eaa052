"""Muon over matrices and AdamW over the rest, as one optimiser."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stainglass.config import DenoiserLoop, Loop
from stainglass.training.muon import Muon
from stainglass.training.optimiser import make_optimiser, set_learning_rate

MADE = {"lr": 0.02, "weight_decay": 0.01, "betas": (0.9, 0.99)}


def network(memory_format: torch.memory_format = torch.contiguous_format) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.SiLU(), nn.Conv2d(32, 4, 1))
    return nn.Sequential(*layers).to(memory_format=memory_format)


def trained(net: nn.Sequential, optimiser: torch.optim.Optimizer, steps: int, first: int = 0) -> list[float]:
    losses = []
    for step in range(first, first + steps):
        torch.manual_seed(step)
        x = torch.randn(8, 16, 6, 6)
        loss = (net(x) - x[:, :4]).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def test_the_update_of_a_convolution_is_orthogonal_and_of_adamws_size() -> None:
    net = network()
    before = net[0].weight.detach().clone()
    trained(net, Muon(net.parameters(), **{**MADE, "weight_decay": 0.0}), 1)
    moved = (before - net[0].weight.detach()).flatten(1)
    values = torch.linalg.svdvals(moved / (0.02 * 0.2 * 144**0.5))
    assert ((values > 0.6) & (values < 1.3)).all()
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.2 * 0.02, rel=0.25)


def test_what_is_no_matrix_goes_as_adamw_has_it() -> None:
    ours, theirs = network(), network()
    rest = (1, 3)  # the norm, and a last layer of four rows
    trained(ours, Muon(ours.parameters(), **MADE), 1)
    trained(theirs, torch.optim.AdamW(theirs.parameters(), **MADE), 1)
    for number in rest:
        for mine, other in zip(ours[number].parameters(), theirs[number].parameters(), strict=True):
            torch.testing.assert_close(mine, other)
    torch.testing.assert_close(ours[0].bias, theirs[0].bias)
    assert not torch.allclose(ours[0].weight, theirs[0].weight)


def test_where_channels_lie_in_memory_changes_nothing() -> None:
    plain, last = network(), network(torch.channels_last)
    a = trained(plain, Muon(plain.parameters(), **MADE), 5)
    b = trained(last, Muon(last.parameters(), **MADE), 5)
    assert a == pytest.approx(b, rel=0.02)
    assert a[-1] < 0.9 * a[0]


def test_a_restored_optimiser_goes_on_as_if_never_saved() -> None:
    whole, broken = network(torch.channels_last), network(torch.channels_last)
    one = Muon(whole.parameters(), **MADE)
    trained(whole, one, 3)
    wanted = trained(whole, one, 3, first=3)
    before = Muon(broken.parameters(), **MADE)
    trained(broken, before, 3)
    after = Muon(broken.parameters(), **MADE)
    after.load_state_dict(before.state_dict())
    assert trained(broken, after, 3, first=3) == wanted


def test_a_learning_rate_set_outside_is_that_of_both_parts_even_after_a_restart() -> None:
    net = network()
    optimiser = make_optimiser(Loop(optimiser="muon", weight_decay=0.0), net.parameters())
    assert isinstance(optimiser, Muon)
    trained(net, optimiser, 1)
    optimiser.load_state_dict(optimiser.state_dict())
    set_learning_rate(optimiser, 0.0)
    before = [p.detach().clone() for p in net.parameters()]
    trained(net, optimiser, 1)
    torch.testing.assert_close(list(net.parameters()), before, rtol=0, atol=0)


def test_parameters_may_be_moved_in_memory_after_it_was_made() -> None:
    """As Accelerate does where several processes train."""
    still, moved = network(torch.channels_last), network(torch.channels_last)
    one, other = (Muon(net.parameters(), **MADE) for net in (still, moved))
    for parameter in moved.parameters():
        parameter.data = parameter.data.clone()
    assert trained(moved, other, 4) == trained(still, one, 4)


def test_a_weight_that_is_no_matrix_in_memory_is_refused_rather_than_left_untrained() -> None:
    cut_out = nn.Parameter(torch.zeros(16, 16, 6)[..., :4])
    with pytest.raises(RuntimeError, match="view"):
        Muon([cut_out], **MADE)


def test_a_gradient_that_lies_otherwise_than_its_weight_is_taken_as_it_is_meant() -> None:
    one, other = network(torch.channels_last), network(torch.channels_last)
    for net, format_ in ((one, torch.channels_last), (other, torch.contiguous_format)):
        torch.manual_seed(1)
        for parameter in net.parameters():
            gradient = torch.randn(parameter.shape)
            parameter.grad = gradient.contiguous(memory_format=format_) if parameter.ndim == 4 else gradient
        Muon(net.parameters(), **MADE).step()
    torch.testing.assert_close(one[0].weight, other[0].weight)


def test_a_parameter_without_gradient_stays() -> None:
    net, idle = network(), nn.Parameter(torch.ones(16, 16))
    optimiser = Muon([*net.parameters(), idle], **MADE)
    trained(net, optimiser, 2)
    assert (idle == 1).all()


def test_a_recorded_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cuda_graph cannot record a step with .*optimiser muon"):
        DenoiserLoop(cuda_graph=True, optimiser="muon")
