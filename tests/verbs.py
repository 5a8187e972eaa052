"""A command run in this process, as a user would."""

from __future__ import annotations

import sys

import pytest

from stainglass.cli import main as cli


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    """Run a command in this process; (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["stainglass", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def bad(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that must fail as a finding of the user's input; returns its one line."""
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 2, err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, err
    return lines[0]
