from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from stainglass.errors import StainglassError
from stainglass.genes.normalise import log_normalised
from stainglass.models.autoencoder import decode_latents
from stainglass.models.denoiser import TissueDiT, make_unet
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.selector import Selector, block_statistics, nearest_expression

QUICK = SamplerSettings(steps=2, guidance=1.0)


def told(genes: int, windows: int = 4, spots: int = 4, seed: int = 0) -> ConditionTensors:
    rng = torch.Generator().manual_seed(seed)
    return ConditionTensors(
        torch.poisson(torch.full((windows, spots, genes), 3.0), generator=rng),
        torch.randn(windows, spots, 2, generator=rng) * 80,
        torch.full((windows, spots), 55.0),
        torch.rand(windows, spots, generator=rng) < 0.7,
    )


@pytest.fixture
def choosing(pipeline: TissuePipeline) -> TissuePipeline:
    """The small generator with a selector that prefers something, whatever it is."""
    facts = pipeline.facts
    assert facts is not None
    pipeline = TissuePipeline(pipeline.autoencoder, pipeline.condnet, pipeline.denoiser, pipeline.scheduler)
    pipeline.facts = facts
    seen = pipeline.look(torch.zeros(1, len(facts.latent_mean), 8, 8), 0.5)
    torch.manual_seed(0)
    pipeline.register_modules(selector=Selector(seen.shape[1], len(facts.gene_ids), 4).eval())
    return pipeline


def noises(pipeline: TissuePipeline, candidates: int, windows: int = 4) -> torch.Tensor:
    assert pipeline.facts is not None
    shape = (candidates, windows, len(pipeline.facts.latent_mean), 8, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def genes_of(pipeline: TissuePipeline) -> int:
    assert pipeline.facts is not None
    return len(pipeline.facts.gene_ids)


def test_the_nearest_spot_that_is_there_counts() -> None:
    conditions = told(12)
    conditions.present[:, 0] = True
    found = nearest_expression(conditions).numpy()
    for i in range(4):
        away = conditions.offsets_um_yx[i].norm(dim=-1).numpy()
        nearest = np.where(conditions.present[i].numpy(), away, np.inf).argmin()
        np.testing.assert_allclose(
            found[i], log_normalised(conditions.counts[i, nearest : nearest + 1].numpy())[0], rtol=1e-5
        )


def test_agreement_is_best_where_what_is_read_is_what_was_told_and_unmeasured_genes_have_no_say() -> None:
    torch.manual_seed(0)
    selector = Selector(6, 12, 4)
    conditions = told(12)
    conditions.present[:] = True
    wanted = selector.told(nearest_expression(conditions) - selector.usual)
    with torch.no_grad():
        seen = torch.linalg.lstsq(selector.read.weight, (wanted - selector.read.bias).T).solution.T
        found = selector(seen, conditions)
        assert found.abs().max() < 1e-6
        assert (selector(seen + 1, conditions) < -0.01).all()
        measured = torch.ones(4, 12, dtype=torch.bool)
        measured[:, 5] = False
        some = replace(conditions, measured=measured)
        away = nearest_expression(conditions)[:, 5:6] - selector.usual[5]
        moved = away * selector.told.weight[:, 5]
        torch.testing.assert_close(selector(seen, some), -moved.square().sum(1), rtol=1e-3, atol=1e-5)


def test_where_nothing_is_told_nothing_is_preferred() -> None:
    conditions = told(12)
    conditions.present[2] = False
    found = Selector(6, 12)(torch.randn(4, 6), conditions)
    assert found[2] == 0


@pytest.mark.parametrize(
    ("make", "width"),
    [
        (lambda: make_unet((16, 32), 1, 16, 4, 8, 32), 2 * (16 + 32 + 2 * 32 + 2 * 32 + 2 * 16)),
        (lambda: TissueDiT(4, 8, width=32, layers=3, heads_of=16, condition_width=32), 2 * 3 * 32),
    ],
)
def test_every_block_of_a_denoiser_is_looked_at_once_and_nothing_is_left_behind(
    make: Callable[[], nn.Module], width: int
) -> None:
    from stainglass.models.denoiser import predict_velocity
    from stainglass.models.flow import RECTIFIED
    from stainglass.models.genecondnet import Embedded

    torch.manual_seed(0)
    denoiser = make().eval()
    heard = Embedded(torch.zeros(3, 4, 32), torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, 32))
    x, t = torch.randn(3, 4, 8, 8), torch.full((3,), 0.5)

    def look() -> torch.Tensor:
        return predict_velocity(denoiser, x, t, heard, RECTIFIED)

    with torch.no_grad():
        found = block_statistics(denoiser, look)
    assert found.shape == (3, width)
    assert (found[0] != found[1]).any()
    assert not any(module._forward_hooks for module in denoiser.modules())
    with pytest.raises(RuntimeError, match="nothing"):
        block_statistics(denoiser, lambda: (_ for _ in ()).throw(RuntimeError("nothing to see")))
    assert not any(module._forward_hooks for module in denoiser.modules())


def test_a_compiled_denoiser_is_looked_at_as_well(choosing: TissuePipeline) -> None:
    assert choosing.facts is not None
    z = torch.randn(2, len(choosing.facts.latent_mean), 8, 8, generator=torch.Generator().manual_seed(0))
    expected = choosing.look(z)
    denoiser = choosing.denoiser
    try:
        denoiser.compile(backend="eager")
        with torch.no_grad():  # traced with just these shapes, before there are hooks
            choosing.velocity(z, torch.full((2,), 0.5), choosing._untold(2))
        torch.testing.assert_close(choosing.look(z), expected)
    finally:
        denoiser._compiled_call_impl = None
        torch.compiler.reset()


def test_the_candidate_that_agrees_best_is_painted_each_window_by_itself(choosing: TissuePipeline) -> None:
    conditions, several = told(genes_of(choosing)), noises(choosing, 5)
    conditions.present[:, 0] = True
    latents = [choosing.sample_latents(conditions, one, QUICK) for one in several]
    agreement = torch.stack([choosing.selector(choosing.look(z), conditions) for z in latents])
    best = agreement.argmax(0)
    assert len(set(best.tolist())) > 1
    expected = torch.stack([decode_latents(choosing.autoencoder, latents[k])[i] for i, k in enumerate(best)])
    painted = choosing(conditions, several, QUICK)
    assert (painted.int() - expected.int()).abs().max() <= 1
    alone = ConditionTensors(*(part[1:2] for part in (
        conditions.counts, conditions.offsets_um_yx, conditions.diameters_um, conditions.present
    )))  # fmt: skip
    assert (choosing(alone, several[:, 1:2], QUICK).int() - painted[1:2].int()).abs().max() <= 1


def test_what_is_wanted_decides_and_not_what_was_told(choosing: TissuePipeline) -> None:
    conditions, other, several = (
        told(genes_of(choosing)),
        told(genes_of(choosing), seed=5),
        noises(choosing, 6),
    )
    conditions.present[:, 0] = other.present[:, 0] = True
    by_default = choosing(conditions, several, QUICK)
    assert torch.equal(by_default, choosing(conditions, several, QUICK, conditions))
    assert not torch.equal(by_default, choosing(conditions, several, QUICK, other))


def test_without_a_condition_or_without_candidates_the_first_is_painted(choosing: TissuePipeline) -> None:
    conditions, several = told(genes_of(choosing)), noises(choosing, 3)
    first = choosing(conditions.null(), several[0], QUICK)
    assert torch.equal(choosing(conditions.null(), several, QUICK), first)
    assert torch.equal(choosing(conditions, several[:1], QUICK), choosing(conditions, several[0], QUICK))


def test_a_generator_that_cannot_select_says_so_before_it_paints(pipeline: TissuePipeline) -> None:
    with pytest.raises(StainglassError, match=r"no selector to choose the best of 2.*stainglass select"):
        pipeline(told(genes_of(pipeline)), noises(pipeline, 2), QUICK)
