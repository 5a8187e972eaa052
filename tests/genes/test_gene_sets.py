"""The published gene sets, on today's genes."""

import pytest

from stainglass.genes.gene_sets import find_gene_set, gene_sets
from stainglass.genes.table import gene_id


def test_both_collections_are_whole():
    names = list(gene_sets())
    assert sum(name.startswith("HALLMARK_") for name in names) == 50
    assert sum(name.startswith("PROGENy:") for name in names) == 14
    assert len(gene_sets()["HALLMARK_HYPOXIA"].weights) == pytest.approx(200, abs=3)
    assert all(
        90 <= len(s.weights) + len(s.unmapped) <= 100 for n, s in gene_sets().items() if "PROGENy" in n
    )


def test_former_symbols_are_mapped():
    lost = [symbol for found in gene_sets().values() for symbol in found.unmapped]
    asked = sum(len(found.weights) for found in gene_sets().values())
    assert len(lost) < 0.01 * asked
    hallmark = [symbol for n, found in gene_sets().items() if "HALLMARK" in n for symbol in found.unmapped]
    assert set(hallmark) <= {"CRIPAK"}
    assert gene_id("GNB2L1") == gene_id("RACK1") is not None
    assert gene_id("PKM2") == gene_id("PKM") is not None


def test_published_weights():
    # The heaviest genes of the pathways as PROGENy prints them.
    androgen = gene_sets()["PROGENy:Androgen"].weights
    assert androgen[gene_id("KLK3")] == pytest.approx(14.61, abs=0.01)
    assert any(weight < 0 for weight in androgen.values())
    assert gene_id("CA9") in gene_sets()["PROGENy:Hypoxia"].weights
    assert gene_id("VEGFA") in gene_sets()["HALLMARK_HYPOXIA"].weights


def test_names_are_found_whatever_their_case():
    assert find_gene_set("hallmark_hypoxia").title == "Hypoxia (hallmark)"
    assert find_gene_set("PROGENY:hypoxia").title == "Hypoxia (PROGENy)"
    assert find_gene_set("HALLMARK_NOTHING") is None
