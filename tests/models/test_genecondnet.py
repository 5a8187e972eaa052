from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stainglass.genes.gene_sets import gene_sets
from stainglass.models.gene_encoder import GeneEncoder, log_normalised, set_weights
from stainglass.models.genecondnet import ConditionTensors, GeneCondNet

G, S, B = 12, 3, 2


OF_HYPOXIA = list(gene_sets()["HALLMARK_HYPOXIA"].weights)[:4]
IDS = [*OF_HYPOXIA, *(f"none{i}" for i in range(G - 4))]


def conditions(seed: int = 0) -> ConditionTensors:
    g = torch.Generator().manual_seed(seed)
    present = torch.tensor([[True, True, False], [True, False, False]])
    return ConditionTensors(
        torch.poisson(torch.full((B, S, G), 3.0), generator=g) * present[..., None],
        torch.randn(B, S, 2, generator=g) * 50,
        torch.full((B, S), 55.0),
        present,
    )


@pytest.fixture(params=["profile", "set", "pca", "gene-sets"])
def net(request: pytest.FixtureRequest) -> GeneCondNet:
    torch.manual_seed(0)
    net = GeneCondNet(G, request.param, width=16, tokens=2, top_k=5, components=6).eval()
    net.encoder.fit(torch.poisson(torch.full((50, G), 4.0)), IDS)
    return net


def test_shapes_and_mask(net: GeneCondNet) -> None:
    told = net(conditions())
    assert told.tokens.shape == (B, S * 2, 16)
    assert told.pooled.shape == (B, 16)
    assert told.mask.tolist() == [[True] * 4 + [False] * 2, [True] * 2 + [False] * 4]


def test_an_absent_spot_says_nothing(net: GeneCondNet) -> None:
    c = conditions()
    told = net(c)
    noisy = net(
        replace(
            c,
            counts=c.counts + 50 * ~c.present[..., None],
            offsets_um_yx=c.offsets_um_yx + 9 * ~c.present[..., None],
        )
    )
    torch.testing.assert_close(told.tokens[told.mask], noisy.tokens[noisy.mask])
    torch.testing.assert_close(told.pooled, noisy.pooled)


def test_a_window_without_spots_is_told_null_whatever_lies_there(net: GeneCondNet) -> None:
    c = conditions()
    empty = [net(replace(conditions(seed), present=torch.zeros_like(c.present))) for seed in (0, 1)]
    torch.testing.assert_close(empty[0].tokens[empty[0].mask], empty[1].tokens[empty[1].mask])
    torch.testing.assert_close(empty[0].pooled[0], net.null_pooled)
    assert empty[0].mask.any(1).all()


def test_the_order_of_spots_does_not_matter_to_the_pooled_vector(net: GeneCondNet) -> None:
    c = conditions()
    flipped = ConditionTensors(
        c.counts.flip(1), c.offsets_um_yx.flip(1), c.diameters_um.flip(1), c.present.flip(1)
    )
    torch.testing.assert_close(net(c).pooled, net(flipped).pooled, atol=1e-6, rtol=1e-5)


def test_genes_and_place_are_heard(net: GeneCondNet) -> None:
    c = conditions()
    told = net(c)
    more = c.counts.clone()
    more[:, 0, 3] += 40
    assert (net(replace(c, counts=more)).pooled - told.pooled).abs().max() > 1e-4
    assert (net(replace(c, offsets_um_yx=c.offsets_um_yx + 40)).tokens - told.tokens).abs().max() > 1e-4


def test_the_set_sees_its_top_genes_only() -> None:
    torch.manual_seed(0)
    encoder = GeneEncoder(G, "set", width=16, tokens=2, top_k=3).eval()
    counts = torch.tensor([[0.0, 9, 8, 7, 1, 1, 1, 0, 0, 0, 0, 0]])
    fewer = counts.clone()
    fewer[0, 4], fewer[0, 7] = 0, 1  # the total stays, the top three stay
    for a, b in zip(encoder(counts, torch.tensor([55.0])), encoder(fewer, torch.tensor([55.0]))):
        torch.testing.assert_close(a, b)


def test_a_spot_without_counts_gives_finite_tokens(net: GeneCondNet) -> None:
    told = net(replace(conditions(), counts=torch.zeros(B, S, G)))
    assert torch.isfinite(told.tokens).all()
    assert torch.isfinite(told.pooled).all()


def test_unmeasured_genes_are_silent() -> None:
    torch.manual_seed(0)
    encoder = GeneEncoder(G, "profile", width=16, tokens=2)
    encoder.fit(torch.poisson(torch.full((50, G), 4.0)))
    counts = torch.poisson(torch.full((1, G), 4.0))
    counts[:, 5] = 0
    measured = torch.ones(1, G, dtype=torch.bool)
    measured[:, 5] = False
    shifted = encoder(counts, torch.tensor([55.0]), measured)[1]
    encoder.gene_mean[5] += 3  # a masked gene's statistics cannot matter
    torch.testing.assert_close(encoder(counts, torch.tensor([55.0]), measured)[1], shifted)
    assert (encoder(counts, torch.tensor([55.0]))[1] - shifted).abs().max() > 1e-4


def test_saved_and_loaded_it_is_the_same(net: GeneCondNet, tmp_path: Path) -> None:
    net.save_pretrained(tmp_path)
    loaded = GeneCondNet.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
    torch.testing.assert_close(loaded(conditions()).tokens, net(conditions()).tokens)
    assert float(loaded.encoder.depth_mean) == pytest.approx(float(net.encoder.depth_mean))


def test_a_picture_may_be_told_instead_of_genes() -> None:
    torch.manual_seed(0)
    net = GeneCondNet(G, width=16, tokens=2, image_dim=6).eval()
    c = conditions()
    images = torch.randn(B, 6)
    told = net(replace(c, present=torch.zeros_like(c.present), images=images))
    assert told.mask.tolist() == [[False] * 6 + [True] * 2] * B  # the picture's tokens alone
    other = net(replace(c, present=torch.zeros_like(c.present), images=-images))
    assert (told.pooled != other.pooled).any(1).all()


def test_no_picture_is_as_if_none_could_be_told() -> None:
    torch.manual_seed(0)
    net = GeneCondNet(G, width=16, tokens=2, image_dim=6).eval()
    c = conditions()
    none, zeros = net(c), net(replace(c, images=torch.zeros(B, 6)))
    torch.testing.assert_close(none.tokens[none.mask], zeros.tokens[zeros.mask])
    torch.testing.assert_close(none.pooled, zeros.pooled)
    empty = net(replace(c.null(), images=torch.zeros(B, 6)))
    torch.testing.assert_close(empty.pooled[0], net.null_pooled)
    assert empty.mask.sum(1).tolist() == [2, 2]


def test_components_of_the_training_spots_are_independent_and_of_unit_deviation() -> None:
    torch.manual_seed(0)
    counts = torch.poisson(torch.rand(200, 3) @ torch.rand(3, G) * 20)
    encoder = GeneEncoder(G, "pca", width=16, tokens=2, components=3)
    encoder.fit(counts)
    standard = encoder.standard(log_normalised(counts))
    scores = (standard - standard.mean(0)) @ encoder.input.weights.T
    torch.testing.assert_close(torch.cov(scores.T), torch.eye(3), atol=1e-3, rtol=0)


def test_a_gene_set_is_heard_through_its_own_genes_alone() -> None:
    weights = set_weights(IDS)
    names = list(gene_sets())
    hypoxia = weights[names.index("HALLMARK_HYPOXIA")]
    assert hypoxia.norm().item() == pytest.approx(1)
    assert (hypoxia[len(OF_HYPOXIA) :] == 0).all()
    assert (weights.norm(dim=1) == 0).any()  # a set without a gene on the axis


def test_without_pooling_windows_differ_by_tokens_alone() -> None:
    torch.manual_seed(0)
    net = GeneCondNet(G, width=16, tokens=2, pools=False).eval()
    one, other = net(conditions(0)), net(conditions(1))
    assert torch.equal(one.pooled, other.pooled)
    assert not torch.equal(one.tokens, other.tokens)
