import torch

from stainglass.models.adversary import Adversary


def judged(adversary: Adversary, x: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    return adversary(x, torch.full((len(x),), 0.2), pooled).mean(1)


def test_it_learns_which_windows_are_tissue_and_whose() -> None:
    torch.manual_seed(0)
    adversary = Adversary(4, 6, width=16)
    optimiser = torch.optim.AdamW(adversary.parameters(), 3e-3)

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tissue is bright where its spots say so (channel 0), and smooth."""
        pooled = torch.randn(n, 6)
        rough = torch.randn(n, 4, 16, 16)
        smooth = torch.nn.functional.avg_pool2d(rough, 5, 1, 2) * 3
        smooth[:, 0] += 2 * pooled[:, 0, None, None].sign()
        return smooth, pooled

    for _ in range(100):
        z, pooled = draw(12)
        painted, wrong = z + torch.randn_like(z), pooled.roll(1, 0)
        hinge = torch.nn.functional.relu
        loss = hinge(1 - judged(adversary, z, pooled)).mean()
        loss = loss + hinge(1 + judged(adversary, painted, pooled)).mean()
        loss = loss + hinge(1 + judged(adversary, z, wrong)).mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():
        z, pooled = draw(64)
        right = judged(adversary, z, pooled)
        assert (right > judged(adversary, z + torch.randn_like(z), pooled)).float().mean() > 0.9
        turned = pooled * torch.tensor([-1.0, 1, 1, 1, 1, 1])
        assert (right > judged(adversary, z, turned)).float().mean() > 0.8


def test_held_passes_gradients_on_and_takes_none() -> None:
    adversary, x = Adversary(4, 6, width=16), torch.randn(2, 4, 8, 8, requires_grad=True)
    with adversary.held():
        answer = judged(adversary, x, torch.randn(2, 6)).sum()
    answer.backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in adversary.parameters())
    assert all(p.requires_grad for p in adversary.parameters())


def test_every_scale_weighs_alike() -> None:
    adversary = Adversary(4, 6, width=16).eval()
    with torch.no_grad():
        field = adversary(torch.randn(1, 4, 32, 32), torch.tensor([0.1]), torch.randn(1, 6))
    assert field.shape == (1, 3 * 16 * 16)
