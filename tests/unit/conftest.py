"""What unit tests start from."""

from __future__ import annotations

import pytest

import parmap


@pytest.fixture(autouse=True, scope="module")
def _no_idle_workers() -> None:
    """Workers that other tests have left warm retire when they like, and take descriptors along
    while these tests count them."""
    parmap.shutdown()
