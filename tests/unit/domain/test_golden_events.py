"""Yesterday's bytes still read, and hash to what they hashed to, for every type and version."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from domain.events.families import EndReason
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


def closed_sets(type_: inspect.Type) -> Iterator[type[Enum]]:
    """The enums that a field is of, as it is or in a list or beside null."""
    match type_:
        case inspect.EnumType(cls=cls):
            yield cls
        case inspect.ListType(item_type=item):
            yield from closed_sets(item)
        case inspect.UnionType(types=types):
            yield from itertools.chain.from_iterable(map(closed_sets, types))


def carriers() -> dict[type[Enum], list[tuple[str, str]]]:
    """Where events carry members of closed sets: by the set, golden files and fields."""
    found = defaultdict(list)
    for name, cls in CURRENT.items():
        info = inspect.type_info(cls)
        assert isinstance(info, inspect.StructType)
        for field in info.fields:
            for members in closed_sets(field.type):
                found[members].append((name, field.encode_name))
    return found


def stored_in(name: str, field: str) -> set[object]:
    """Every value that the examples of a golden file have in a field."""
    values = [example.data.get(field) for example in golden.read(name).examples]
    return {one for each in values for one in (each if isinstance(each, list) else [each])}


@pytest.mark.parametrize(
    ("members", "places"),
    [pytest.param(members, places, id=members.__name__) for members, places in carriers().items()],
)
def test_every_member_of_a_closed_set_that_events_carry_has_golden_bytes(
    members: type[Enum], places: list[tuple[str, str]]
) -> None:
    stored = set[object]().union(*(stored_in(*place) for place in places))

    assert {each.value for each in members} <= stored


@pytest.mark.parametrize("name", ["SessionEnded.v1", "FamilyRevoked.v1"])
def test_each_way_to_end_has_golden_bytes_for_every_reason(name: str) -> None:
    assert stored_in(name, "reason") == set(EndReason)


def test_a_golden_file_is_never_overwritten() -> None:
    before = (golden.FOLDER / "SessionStarted.v1.json").read_bytes()

    with pytest.raises(FileExistsError):
        golden.write("SessionStarted.v1")

    assert (golden.FOLDER / "SessionStarted.v1.json").read_bytes() == before


def test_a_golden_file_is_extended_behind_what_it_has_alone(tmp_path: Path) -> None:
    path = golden.write("SessionExpired.v1", tmp_path)
    whole = path.read_bytes()
    first, second = msgspec.json.decode(whole)["examples"]
    shorter = msgspec.json.decode(whole) | {"examples": [first]}
    path.write_bytes(msgspec.json.encode(shorter))

    golden.extend("SessionExpired.v1", tmp_path)
    extended = path.read_bytes()
    path.write_bytes(msgspec.json.encode(shorter | {"examples": [second]}))

    assert extended == whole
    with pytest.raises(ValueError, match="do not begin with those in its file"):
        golden.extend("SessionExpired.v1", tmp_path)


@pytest.mark.parametrize("name", ["SessionStarted.v0", "SessionStarted.v2", "Unheard.v1", ""])
def test_only_a_current_version_of_a_known_type_is_written(name: str) -> None:
    with pytest.raises(KeyError):
        golden.write(name)

    assert sorted(path.stem for path in golden.FOLDER.glob("*.json")) == NAMES
