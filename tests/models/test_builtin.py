import shutil
from pathlib import Path

import pytest
import torch

from stainglass.errors import StainglassError
from stainglass.evaluation.card import Card
from stainglass.models import builtin
from stainglass.models.builtin import builtin_names, resolve_builtin
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings


def test_a_builtin_is_a_folder_of_the_package_by_name(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run_folder / "generator", tmp_path / "toy")
    monkeypatch.setattr(builtin, "FOLDER", tmp_path)
    assert builtin_names() == ("toy",)
    assert TissuePipeline.from_pretrained("builtin:toy").facts.name == "small"
    with pytest.raises(StainglassError, match="There are: builtin:toy"):
        resolve_builtin("builtin:liver")


@pytest.mark.parametrize("name", ["me/model", "runs/x/generator", Path("runs/x")])
def test_other_names_are_left_as_they_are(name: str | Path) -> None:
    assert resolve_builtin(name) == name


@pytest.mark.parametrize("name", builtin_names())
def test_what_ships_names_no_folder_of_the_machine_it_was_made_on(name: str) -> None:
    for path in Path(resolve_builtin(f"builtin:{name}")).rglob("*.json"):
        assert "_name_or_path" not in path.read_text(), path


@pytest.mark.parametrize("name", builtin_names())
def test_what_ships_is_small_judged_and_says_what_it_is(name: str) -> None:
    folder = resolve_builtin(f"builtin:{name}")
    assert isinstance(folder, Path)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert {path.suffix for path in files} <= {".json", ".md", ".safetensors"}
    card, told = Card.read(folder / "card.json"), (folder / "README.md").read_text(encoding="utf-8")
    assert "Not for diagnosis" in told
    for row in card.rows:
        assert row.value is None or f"| {row.metric} |" in told
    pipeline = TissuePipeline.from_pretrained(f"builtin:{name}")
    assert pipeline.facts is not None
    assert pipeline.facts.data in told
    assert SamplerSettings.read(card.sampling, name) == pipeline.facts.sampler
    assert pipeline.denoiser.dtype == torch.float32
