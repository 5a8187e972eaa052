from collections.abc import Iterator

import pytest
from local_web import Web, web


@pytest.fixture
def served() -> Iterator[Web]:
    """A server on this machine."""
    with web() as server:
        yield server
