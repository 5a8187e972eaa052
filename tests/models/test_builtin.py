import shutil
from pathlib import Path

import pytest

from stainglass.errors import StainglassError
from stainglass.models import builtin
from stainglass.models.builtin import builtin_names, resolve_builtin
from stainglass.models.pipeline import TissuePipeline


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
