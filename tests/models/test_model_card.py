from stainglass.models.model_card import _history


def test_trainings_are_told_from_the_first_to_the_last() -> None:
    told = {
        "denoiser steps": 30,
        "seconds": {"clip": 0, "denoiser": 9},
        "gone on from": "second",
        "before, denoiser steps": 20,
        "before, gone on from": "first",
        "before, before, denoiser steps": 10,
    }
    assert _history(told).splitlines() == [
        "1. denoiser steps: 10",
        "2. denoiser steps: 20; gone on from: first",
        "3. denoiser steps: 30; seconds: denoiser 9; gone on from: second",
    ]


def test_one_training_is_a_list_and_none_is_said() -> None:
    assert _history({"seed": 0, "seconds": {"clip": 0}}) == "- seed: 0\n- seconds: none"
    assert _history({}) == "- not recorded"
