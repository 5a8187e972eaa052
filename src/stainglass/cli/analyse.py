"""What a run does with its generator after the card: the steps that its recipe names, each skipped when it is there."""

from __future__ import annotations

from pathlib import Path

from stainglass.analysis.embeddings import write_embeddings
from stainglass.analysis.find_components import write_components
from stainglass.analysis.find_subtypes import write_subtypes
from stainglass.analysis.latent_view import MOST_POINTS
from stainglass.cohort.cohort import Cohort
from stainglass.config import Recipe
from stainglass.models.clip import TissueCLIP
from stainglass.models.sampler import SamplerSettings
from stainglass.progress import console
from stainglass.report.compartment_page import write_compartments
from stainglass.report.figure_folder import write_figures
from stainglass.report.latent_run import write_latent
from stainglass.synthesis.generator import Generator

RESULTS = {
    "figures": Path("figures") / "index.html",
    "compartments": Path("compartments") / "compartments.json",
    "components": Path("components") / "components.json",
    "subtypes": Path("subtypes") / "subtypes.json",
    "latent": Path("latent.html"),
}


def embed_run(run: Path, cohort: Cohort) -> None:
    """Every section in the run's CLIP space, where that is not written yet."""
    clip = TissueCLIP.load(run / "clip" / "model")
    missing = [name for name in cohort.sections if not (run / "embeddings" / f"{name}.h5ad").is_file()]
    if missing:
        write_embeddings(clip, cohort, missing, run / "embeddings")


def analyse_run(run: Path, cohort: Cohort, plan: Recipe) -> None:
    """Figures, compartments, components, classes and latent view of the judged sections."""
    missing = [step for step in plan.analysis.steps if not (run / "analysis" / RESULTS[step]).is_file()]
    if not missing:
        return
    generator = Generator.from_pretrained(run / "generator")
    sampling, most = plan.sampling, plan.analysis.most
    settings = SamplerSettings.of(sampling)
    sections = cohort.split(plan.split.name).part(plan.evaluation.part)
    given = (run, cohort, generator, settings, sections)
    seed, batch = sampling.seed, sampling.batch
    for step in missing:
        console.print(f"  {step}", highlight=False)
        if step == "figures":
            write_figures(*given, plan.analysis.signals, most, seed=seed, batch=batch)
        elif step == "compartments":
            write_compartments(*given, most, noise_seed=seed)
        elif step == "components":
            write_components(*given, most, noise_seed=seed)
        elif step == "subtypes":
            write_subtypes(*given, most, noise_seed=seed)
        else:
            points = MOST_POINTS if most is None else 2 * most * len(sections)
            write_latent(*given, most=points, seed=seed, batch=batch)
