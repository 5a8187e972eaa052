"""A training that is stopped on its way and goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stainglass.errors import StopRequested
from stainglass.training import loop


def stopped_and_gone_on(
    monkeypatch: pytest.MonkeyPatch, training: Callable[[], Any], steps: int, at: int = 2
) -> Any:
    """What the training returns when it was stopped after step ``at``, where no checkpoint is due otherwise, and begun again.

    Fails unless every one of its ``steps`` was gone once.
    """
    record, gone = loop._Run.record, []

    def stops(self: loop._Run, done: int, figures: dict[str, float]) -> None:
        record(self, done, figures)
        gone.append(done)
        if gone == list(range(1, at + 1)):
            self.checkpoint(done)
            raise StopRequested("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(loop._Run, "record", stops)
        with pytest.raises(StopRequested):
            training()
        made = training()
    assert gone == list(range(1, steps + 1))
    return made
