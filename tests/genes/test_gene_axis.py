import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from stainglass.errors import StainglassError
from stainglass.genes.axis import GeneAxis, align_counts, map_genes, union_axis
from stainglass.genes.markers import marker_ids, marker_programmes
from stainglass.genes.table import aliases, ensembl_id, gene_id, id_of_symbol, symbol_of_id


def test_table_is_whole():
    assert len(symbol_of_id()) == 62_754
    assert symbol_of_id()["ENSG00000141510"] == "TP53"
    unnamed = sum(gene == symbol for gene, symbol in symbol_of_id().items())
    assert 15_000 < unnamed < 30_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ENSG00000141510", "ENSG00000141510"),
        ("ENSG00000141510.18", "ENSG00000141510"),
        ("ENSG00000182378.15_PAR_Y", "ENSG00000182378"),
        ("ENSGR0000182378", "ENSG00000182378"),
        ("ENSMUSG00000059552.8", "ENSMUSG00000059552"),
        ("GRCh38_ENSG00000141510", "ENSG00000141510"),
        ("TP53", None),
        ("ENSEMBL", None),
    ],
)
def test_ensembl_ids_lose_version_and_copies(name, expected):
    assert ensembl_id(name) == expected


def test_a_symbol_of_several_ids_takes_the_lowest():
    several = {}
    for gene, symbol in symbol_of_id().items():
        several.setdefault(symbol, []).append(gene)
    several = {symbol: genes for symbol, genes in several.items() if len(genes) > 1}
    assert len(several) == 343
    assert all(id_of_symbol()[symbol] == min(genes) for symbol, genes in several.items())
    assert gene_id("MATR3") == "ENSG00000015479"
    assert gene_id("CD99") == "ENSG00000002586"


def test_every_alias_leads_from_a_former_to_a_current_symbol():
    current = id_of_symbol()
    assert len(aliases()) > 800
    assert [former for former in aliases() if former in current] == []
    assert [new for new in aliases().values() if new not in current] == []


def test_names_ids_aliases_copies_and_strangers():
    names = ["TP53", "CPSF3L", "MATR3", "MATR3.1", "ENSG00000146648.19", "Sox17", "FO538757.1"]
    mapped = map_genes(names, None, "here")
    assert mapped.axis.ids == (
        "ENSG00000141510",
        gene_id("INTS11"),
        "ENSG00000015479",
        "ENSG00000146648",
        "symbol:Sox17",
        "symbol:FO538757.1",
    )
    assert mapped.axis.symbols[1] == "INTS11"
    assert mapped.unmapped == ("Sox17", "FO538757.1")
    assert (mapped.renamed, mapped.merged) == (1, 1)
    notice = mapped.notice()
    assert notice is not None
    assert "2 of 7" in notice
    assert "Sox17" in notice


def test_ids_win_over_names_and_mouse_ids_stay():
    mapped = map_genes(["MATR3", "Trp53"], ["ENSG00000280987", "ENSMUSG00000059552"], "here")
    assert mapped.axis.ids == ("ENSG00000280987", "ENSMUSG00000059552")
    assert mapped.axis.symbols == ("MATR3", "Trp53")


def test_a_base_symbol_is_needed_for_a_copy():
    assert map_genes(["MATR3.1"], None, "here").unmapped == ("MATR3.1",)


def test_duplicates_are_summed():
    mapped = map_genes(["TP53", "EGFR", "ENSG00000141510"], None, "here")
    summed = mapped.collapse(csr_matrix(np.array([[1, 2, 3], [0, 0, 4]], dtype=np.float32)))
    assert summed.toarray().tolist() == [[4, 2], [4, 0]]


def test_no_genes_and_ragged_ids_are_refused():
    with pytest.raises(StainglassError, match="no genes"):
        map_genes([], None, "here")
    with pytest.raises(StainglassError, match="2 gene names but 1 gene ids"):
        map_genes(["TP53", "EGFR"], ["ENSG00000141510"], "here")


axes = st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=15).map(
    lambda genes: GeneAxis(tuple(f"G{g}" for g in genes), tuple(f"S{g}" for g in genes))
)


@settings(max_examples=40, deadline=None)
@given(axes, axes, st.integers(0, 2**16))
def test_alignment_keeps_every_shared_count(source, target, seed):
    counts = np.random.default_rng(seed).integers(0, 5, (3, len(source))).astype(np.float32)
    aligned, measured = align_counts(csr_matrix(counts), source, target)
    for gene, column in target.position.items():
        values = aligned[:, [column]].toarray().ravel()
        if gene in source.position:
            assert measured[column]
            assert np.array_equal(values, counts[:, source.position[gene]])
        else:
            assert not measured[column]
            assert not values.any()


@settings(max_examples=30, deadline=None)
@given(axes, axes)
def test_union_holds_every_gene_once(one, two):
    union = union_axis([one, two])
    assert set(union.ids) == set(one.ids) | set(two.ids)
    assert union.ids[: len(one)] == one.ids
    back, measured = align_counts(csr_matrix(np.ones((1, len(one)), dtype=np.float32)), one, union)
    assert back.sum() == len(one) == measured.sum()


def test_an_axis_holds_a_gene_once():
    with pytest.raises(ValueError, match="twice"):
        GeneAxis(("A", "A"), ("a", "a"))


def test_columns_by_symbol_former_symbol_or_id():
    axis = map_genes(["TP53", "INTS11", "EGFR"], None, "here").axis
    assert axis.columns_of(["CPSF3L", "ENSG00000141510.3", "no such gene"]).tolist() == [1, 0]


def test_markers_are_genes():
    assert {"keratinocyte", "fibroblast", "t_cell", "goblet", "hypoxia", "hair_follicle"} <= set(
        marker_programmes()
    )
    for name, genes in marker_programmes().items():
        assert 10 <= len(genes) <= 20, name
        assert len(marker_ids(name)) == len(genes)
        assert max(genes.values()) == 1.0
        assert min(genes.values()) > 0
    with pytest.raises(StainglassError, match="keratinocyte"):
        marker_ids("nonsense")
