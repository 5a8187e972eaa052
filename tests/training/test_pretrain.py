"""A gene encoder that learns from expression before there are pictures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.config import GeneEncoder as GeneSettings
from stainglass.config import Loop
from stainglass.models.facts import EXPRESSION_OF
from stainglass.models.gene_encoder import GeneEncoder
from stainglass.models.pipeline import TissuePipeline
from stainglass.training.loop import train
from stainglass.training.pretrain import Complete, Profiles
from stainglass.training.stages import train_generator

GENES = 30


def programmes(spots: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts that two programmes set, so that half of a profile tells the other half."""
    rng = np.random.default_rng(0)
    weights = rng.gamma(2.0, 1.0, (2, GENES))
    mixed = rng.dirichlet([0.4, 0.4], spots) @ weights
    return rng.poisson(40 * mixed).astype(np.float32), np.ones(GENES, bool)


def test_it_learns_to_complete_profiles(tmp_path: Path) -> None:
    counts, measured = programmes(200)
    torch.manual_seed(0)
    encoder = GeneEncoder(GENES, width=32, tokens=2)
    encoder.fit(torch.from_numpy(counts))
    profiles = Profiles([(counts, measured)], [55.0], GeneSettings(), 0)
    loop = Loop(steps=120, batch=32, warmup=5, log_every=1, learning_rate=3e-3)
    train(Complete(encoder, GENES, 32), profiles, loop, tmp_path, "pre-training")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    first, last = (np.mean([line["explained"] for line in some]) for some in (lines[:5], lines[-10:]))
    assert first < 0.15
    assert last > 0.4


def test_unmeasured_genes_are_not_asked_for() -> None:
    counts = torch.from_numpy(programmes(16)[0])
    torch.manual_seed(0)
    encoder = GeneEncoder(GENES, width=32, tokens=2)
    encoder.fit(counts)
    objective = Complete(encoder, GENES, 32)
    measured = (torch.arange(GENES) < 3).tile(16, 1)
    batch = {"counts": counts, "seen": counts, "shown": measured, "measured": measured,
             "diameter_um": torch.full((16,), 55.0)}  # fmt: skip
    wanted = encoder.standard(torch.log1p(counts / counts.sum(1, keepdim=True) * 1e4))
    _, vectors = encoder(counts, batch["diameter_um"], measured)
    by_hand = (objective.tell(vectors) - wanted)[:, :3].pow(2).mean()
    assert objective(batch)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_an_example_is_a_function_of_its_position_and_loses_counts_and_genes() -> None:
    counts, measured = programmes(50)
    profiles = Profiles([(counts[:20], measured), (counts[20:], measured)], [55.0, 100.0], GeneSettings(), 1)
    assert len(profiles) == 50
    drawn = [profiles.example(i) for i in range(60)]
    again = profiles.example(7)
    np.testing.assert_array_equal(again["seen"], drawn[7]["seen"])
    assert {float(d["diameter_um"]) for d in drawn} == {55.0, 100.0}
    assert all((d["seen"] <= d["counts"]).all() for d in drawn)
    kept = np.mean([(d["seen"] > 0).sum() / (d["counts"] > 0).sum() for d in drawn])
    assert 0.35 < kept < 0.55


def test_a_generator_begins_with_it_and_tells_so(cohort: Cohort, run_folder: Path, tmp_path: Path) -> None:
    recipe = small_recipe(
        genes={"genes": 60, "width": 32, "tokens": 2, "pretrain_steps": 6},
        autoencoder={"folder": str(run_folder / "autoencoder" / "model")},
        train_denoiser={"steps": 1, "batch": 2, "warmup": 0, "log_every": 1, "learning_rate": 1e-9},
    )
    split = cohort.split()
    hidden, shown = cohort.patients[split.test[0]], cohort.patients[split.train[0]]
    folder = cohort.path / "expression"
    folder.mkdir()
    try:
        for name, patient in (("shown", shown), ("hidden", hidden), ("new", "somebody else")):
            section = cohort.sections[split.train[0]]
            spots = section.used_spots.copy()
            spots.obsm.clear()
            spots.uns = {"patient": patient, "sha256": "-"}
            spots.write_h5ad(folder / f"{name}.h5ad")
        train_generator(cohort, split, recipe, tmp_path)
    finally:
        shutil.rmtree(folder)
    facts = TissuePipeline.from_pretrained(tmp_path / "generator").facts
    assert facts is not None
    assert facts.training["gene encoder steps"] == 6
    assert facts.training[EXPRESSION_OF] == ["new", "shown"]  # nothing of the patient who is held out
    assert "somebody else" in facts.patients
    assert hidden not in facts.patients
    assert (tmp_path / "denoiser" / "encoder" / "checkpoints" / "step-0000006").is_dir()
    plain = recipe.model_copy(update={"genes": recipe.genes.model_copy(update={"pretrain_steps": 0})})
    train_generator(cohort, cohort.split(), plain, tmp_path / "plain")
    ours, others = (
        TissuePipeline.from_pretrained(folder / "generator").condnet.encoder.state_dict()
        for folder in (tmp_path, tmp_path / "plain")
    )
    assert torch.equal(ours["gene_mean"], others["gene_mean"])
    moved = (ours["input.embed.weight"] - others["input.embed.weight"]).abs().max()
    assert moved > 1e-4
