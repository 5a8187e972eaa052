"""Several processes train one denoiser: real ones, started as a launcher starts them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.solver import JUMPS
from stainglass.recipe_files import write_recipe
from stainglass.training.processes import is_first, refuse_several

SMALL = Path(__file__).parents[1] / "small.yaml"
EXACT = (
    "train_denoiser.precision=no",
    "train_autoencoder.precision=no",
    "train_denoiser.steps=3",
    "train_denoiser.log_every=1",
)
LIMIT_S = 300


def started(count: int, *words: object) -> list[subprocess.Popen[str]]:
    """``stainglass WORDS`` in so many processes that belong together, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "stainglass.cli.main", *map(str, words)]
    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "CUDA_VISIBLE_DEVICES": "",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return [
        subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **shared, "RANK": str(i), "LOCAL_RANK": str(i), "OMP_NUM_THREADS": "1"},
        )
        for i in range(count)
    ]  # fmt: skip


def ended(running: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit codes and what was said on stderr."""
    try:
        said = [one.communicate(timeout=LIMIT_S)[1] for one in running]
        return [(one.returncode, words) for one, words in zip(running, said, strict=True)]
    finally:
        for one in running:
            one.kill()


def training(cohort: Path, out: Path, *sets: str) -> list[object]:
    settings = [word for one in (*EXACT, *sets) for word in ("--set", one)]
    return ["train", cohort, "--recipe", SMALL, "--out", out, *settings]


def weights(run: Path, part: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(
        run / "generator" / part / "diffusion_pytorch_model.safetensors"
    )
    return found


def test_two_processes_train_what_one_would_with_both_their_windows(cohort: Cohort, tmp_path: Path) -> None:
    own = tmp_path / "cohort"
    shutil.copytree(cohort.path, own)
    for latents in own.glob("sections/*/latent"):
        shutil.rmtree(latents)
    for code, said in ended(started(2, *training(own, tmp_path / "two", "train_denoiser.batch=2"))):
        assert code == 0, said
    ((code, said),) = ended(started(1, *training(own, tmp_path / "one", "train_denoiser.batch=4")))
    assert code == 0, said
    # What one process does for all is the same to the last bit; gradients are summed in another order.
    two, one = (weights(tmp_path / run, "autoencoder") for run in ("two", "one"))
    assert all(torch.equal(two[name], one[name]) for name in one)
    for part in ("denoiser", "condnet"):
        two, one = (weights(tmp_path / run, part) for run in ("two", "one"))
        for name in one:
            torch.testing.assert_close(two[name], one[name], atol=2e-4, rtol=1e-3)
    logs = [
        [
            json.loads(line)
            for line in (tmp_path / run / "denoiser" / "metrics.jsonl").read_text().splitlines()
        ]
        for run in ("two", "one")
    ]
    assert [line["step"] for line in logs[0]] == [1, 2, 3]  # written once, by the first
    assert [line["loss"] for line in logs[0]] == pytest.approx([line["loss"] for line in logs[1]], rel=1e-4)
    facts = [TissuePipeline.from_pretrained(tmp_path / run / "generator").facts for run in ("two", "one")]
    assert [of.training["batch"] for of in facts if of is not None] == [4, 4]


def test_a_generator_of_few_steps_is_taught_together(
    cohort: Cohort, run_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    write_recipe(small_recipe(), run / "recipe.yaml")
    settings = [
        word
        for one in ("steps=2", "accumulate=2", "precision=no", "warmup=1", "learning_rate=1.0e-3")
        for word in ("--set", f"distil.{one}")
    ]
    for name, count, batch in (("two", 2, 1), ("one", 1, 2)):
        words = ["distil", run, "--out", tmp_path / name, "--cohort", cohort.path, *settings]
        for code, said in ended(started(count, *words, "--set", f"distil.batch={batch}")):
            assert code == 0, said
    two, one = (weights(tmp_path / name, "denoiser") for name in ("two", "one"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=2e-4, rtol=1e-3)


def test_two_processes_polish_one_generator(cohort: Cohort, run_folder: Path, tmp_path: Path) -> None:
    run, eyes = tmp_path / "run", tmp_path / "tiny"
    shutil.copytree(run_folder, run)
    AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).save_pretrained(
        eyes
    )
    few = {"solver": JUMPS, "steps": 2, "guidance": 1.0, "interval": [0.0, 1.0]}
    write_recipe(small_recipe(sampling=few), run / "recipe.yaml")
    facts = run / "generator" / "stainglass.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"sampling": few}))
    settings = [
        word
        for one in ("steps=2", "batch=2", "bank=32", "warmup=1", "log_every=1", f"eyes=[{eyes}]")
        for word in ("--set", f"polish.{one}")
    ]
    words = ["polish", run, "--out", tmp_path / "out", "--cohort", cohort.path, *settings]
    for code, said in ended(started(2, *words)):
        assert code == 0, said
    found = TissuePipeline.from_pretrained(tmp_path / "out" / "generator").facts
    assert found is not None
    assert found.training["polished"].startswith("2 steps of 4 conditions")
    moved, before = weights(tmp_path / "out", "denoiser"), weights(run, "denoiser")
    assert any(not torch.equal(moved[name], before[name].to(moved[name])) for name in before)


def test_all_stop_when_one_is_asked_to(cohort: Cohort, tmp_path: Path) -> None:
    run = training(cohort.path, tmp_path, "train_denoiser.steps=2000", "train_denoiser.batch=2")
    running = started(2, *run)
    log = tmp_path / "denoiser" / "metrics.jsonl"
    until = time.monotonic() + LIMIT_S
    while not (log.is_file() and log.read_text()):
        assert time.monotonic() < until
        assert [one.poll() for one in running] == [None, None]
        time.sleep(0.2)
    running[1].send_signal(signal.SIGTERM)
    found = ended(running)
    assert [code for code, _ in found] == [130, 130], found
    stopped = sorted((tmp_path / "denoiser" / "checkpoints").glob("step-*"))
    assert len(stopped) == 1
    assert json.loads((stopped[0] / "state.json").read_text())["batch"] == 4  # the windows of both


def test_what_is_not_done_together_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_first()
    refuse_several("evaluate")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse_several("evaluate")  # a cluster may set this one for what it starts alone
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    assert not is_first()
    refuse_several("train")
    with pytest.raises(StainglassError, match=r"each of which would do it all.*train, distil, polish"):
        refuse_several("evaluate")
