import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "fetch"))  # the local web server

from evaluation_toy import SETTINGS, BlindPainter, FaithfulPainter, toy_tissue

from stainglass.evaluation.evaluate import evaluate


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Nothing here needs more than one thread, and two would spin on a shared machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tissues():
    return toy_tissue("held", 2, 7, 7), toy_tissue("train", 1, 8, 8, sections=2), toy_tissue("other", 3, 6, 6)


@pytest.fixture(scope="session")
def faithful(tissues, tmp_path_factory):
    held_out, train, other = tissues
    out = tmp_path_factory.mktemp("faithful")
    painter = FaithfulPainter()
    return evaluate(held_out, train, other, painter, SETTINGS, out), out, painter


@pytest.fixture(scope="session")
def blind(tissues, tmp_path_factory):
    held_out, train, _ = tissues
    out = tmp_path_factory.mktemp("blind")
    return evaluate(held_out, train, None, BlindPainter(), SETTINGS, out), out
