"""Yesterday's bytes still read, and hash to what they hashed to, for every type and version."""

import msgspec
import pytest

from domain.events.registry import decode_event
from tests.unit.domain import golden

CURRENT = golden.current_names()
NAMES = sorted(path.stem for path in golden.FOLDER.glob("*.json"))


def test_every_event_type_has_a_golden_file_for_each_of_its_versions() -> None:
    needed = {
        f"{cls.TYPE}.v{version}"
        for cls in CURRENT.values()
        for version in range(1, cls.SCHEMA_VERSION + 1)
    }

    assert set(NAMES) == set(golden.EXAMPLES) == needed


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_file_is_of_the_type_and_version_in_its_name(name: str) -> None:
    file = golden.read(name)

    assert f"{file.type}.v{file.schema_version}" == name
    assert len(file.examples) == len(golden.EXAMPLES[name]) > 0


@pytest.mark.parametrize("name", NAMES)
def test_stored_data_reads_as_the_event_that_it_stands_for(name: str) -> None:
    file = golden.read(name)

    events = [
        decode_event(file.type, file.schema_version, msgspec.json.encode(example.data))
        for example in file.examples
    ]

    assert events == list(golden.EXAMPLES[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_canonical_bytes_of_a_stored_event_never_change(name: str) -> None:
    file = golden.read(name)

    canonical = [
        golden.canonical_text(file.type, file.schema_version, example.data)
        for example in file.examples
    ]

    assert canonical == [example.canonical for example in file.examples]


@pytest.mark.parametrize("name", sorted(CURRENT))
def test_an_event_is_stored_today_as_it_was_when_its_version_was_new(name: str) -> None:
    file = golden.read(name)

    stored = [golden.stored_data(event) for event in golden.EXAMPLES[name]]

    assert stored == [example.data for example in file.examples]


def test_a_golden_file_is_never_overwritten() -> None:
    before = (golden.FOLDER / "SessionStarted.v1.json").read_bytes()

    with pytest.raises(FileExistsError):
        golden.write("SessionStarted.v1")

    assert (golden.FOLDER / "SessionStarted.v1.json").read_bytes() == before


@pytest.mark.parametrize("name", ["SessionStarted.v0", "SessionStarted.v2", "Unheard.v1", ""])
def test_only_a_current_version_of_a_known_type_is_written(name: str) -> None:
    with pytest.raises(KeyError):
        golden.write(name)

    assert sorted(path.stem for path in golden.FOLDER.glob("*.json")) == NAMES
