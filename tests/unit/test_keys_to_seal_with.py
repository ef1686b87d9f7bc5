"""The master keys are given for sealing old hashes once, and not to whoever took the seals off."""

from pathlib import Path

import pytest

from infra.sealed_hashes import UnsealedHashesError
from infra.settings import Settings
from sessiontrail.keys import key_ring, keys_to_seal_with


def test_they_are_those_that_the_service_runs_with(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)

    assert keys_to_seal_with(settings).keys == key_ring(settings).masters.keys


def test_where_a_head_is_published_nothing_is_sealed_any_more(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.tree_path.mkdir()
    (settings.tree_path / "checkpoint").write_text("a head")

    with pytest.raises(UnsealedHashesError, match="it was altered, or set back"):
        keys_to_seal_with(settings)
