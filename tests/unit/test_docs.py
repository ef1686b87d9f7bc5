"""The documentation says what the code says: settings, problems, events, commands, links."""

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from fastapi.routing import APIRoute
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from api.app import ROUTES
from api.problems import ProblemKind
from domain.events.families import EndReason
from domain.events.registry import Event
from infra.settings import Settings
from infra.telemetry import Metrics
from sessiontrail.cli import app as command_line
from tests.unit.domain.golden import current_names

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
OURS = {cls.TYPE: cls for cls in current_names().values()}
DIRECT = {("POST", "/v1/refresh"), ("POST", "/oauth/token")}
"""Endpoints that do not go through FastAPI (docs/decisions/007)."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_METRIC = re.compile(r"^# TYPE (sessiontrail_\w+) ", re.MULTILINE)


def each_document() -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
    )


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def prose_of(text: str) -> str:
    return _FENCE.sub("", text)


def rows_of(text: str, *columns: str) -> Iterator[list[str]]:
    """The cells of every table that has these columns first."""
    header = None
    for line in text.splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if header is None:
            header = cells
        elif header[: len(columns)] == list(columns) and not set(line) <= set("|- "):
            yield cells


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    _, _, rest = text.partition(f"\n### {heading}\n")
    return rest.partition("\n#")[0]


# ------------------------------------------------------------------------------------ settings


def names_of(name: str, field: FieldInfo) -> list[str]:
    if isinstance(field.validation_alias, AliasChoices):
        return [str(choice) for choice in field.validation_alias.choices]
    return [f"SESSIONTRAIL_{name.upper()}"]


def shown(default: object) -> str:
    """How the table writes a default."""
    match default:
        case None:
            return "none"
        case ():
            return "empty"
        case bool():
            return f"`{str(default).lower()}`"
        case _:
            return f"`{default}`"


def test_every_setting_is_documented_with_its_names_and_its_default() -> None:
    documented = {
        tuple(_CODE.findall(names)): default
        for names, default, *_ in rows_of(text_of("docs/settings.md"), "Name", "Default", "Unit")
    }

    assert documented == {
        tuple(names_of(name, field)): shown(field.default)
        for name, field in Settings.model_fields.items()
    }


def test_every_documented_setting_has_a_unit_and_a_meaning() -> None:
    rows = list(rows_of(text_of("docs/settings.md"), "Name", "Default", "Unit", "Meaning"))

    assert all(unit and meaning for _, _, unit, meaning in rows)


def test_the_readme_gives_the_defaults_of_settings_md() -> None:
    full = {
        name: default
        for names, default, *_ in rows_of(text_of("docs/settings.md"), "Name", "Default", "Unit")
        for name in _CODE.findall(names)
    }
    listed = [
        (name, default)
        for names, defaults, *_ in rows_of(text_of("README.md"), "Name", "Default")
        for name, default in itertools.zip_longest(_CODE.findall(names), defaults.split(", "))
    ]

    given = [(name, default) for name, default in listed if default and default.startswith("`")]
    assert given
    assert all(full[name] == default for name, default in given if name != "SESSIONTRAIL_ISSUER")


@each_document()
def test_no_document_names_a_setting_that_does_not_exist(document: Path) -> None:
    known = {
        alias for name, field in Settings.model_fields.items() for alias in names_of(name, field)
    }

    named = set(re.findall(r"SESSIONTRAIL_[A-Z_]*[A-Z]", document.read_text(encoding="utf-8")))

    assert named <= known


def test_the_durations_in_words_are_those_in_seconds() -> None:
    meanings = {
        names: (default, meaning)
        for names, default, _, meaning in rows_of(
            text_of("docs/settings.md"), "Name", "Default", "Unit", "Meaning"
        )
    }

    for default, meaning in meanings.values():
        for days in re.findall(r"(\d+) days\.", meaning):
            assert default == f"`{timedelta(days=int(days)).total_seconds():.0f}`"


# ------------------------------------------------------------------------------------ HTTP API


def test_every_problem_type_is_documented_with_its_status_and_title() -> None:
    documented = [tuple(row) for row in rows_of(text_of("docs/api.md"), "Type", "Status", "Title")]

    assert sorted(documented) == sorted(
        (f"`{kind.uri}`", str(kind.status), kind.title) for kind in ProblemKind
    )


def test_the_documented_endpoints_are_those_that_there_are() -> None:
    documented = re.findall(r"`(GET|POST|PATCH|PUT|DELETE) (/[^`?\s]*)`", text_of("docs/api.md"))

    served = {
        (method, route.path)
        for module in ROUTES
        for route in module.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert set(documented) == served | DIRECT


@each_document()
def test_examples_of_json_are_json(document: Path) -> None:
    fences = _FENCE.findall(document.read_text(encoding="utf-8"))

    for language, example in fences:
        if language == "json":
            json.loads(example)


# -------------------------------------------------------------------------------------- events


def test_every_event_type_has_a_section_and_no_other_type_has_one() -> None:
    headings = set(re.findall(r"^### (\w+)$", text_of("docs/events.md"), re.MULTILINE))

    assert headings - {"Reasons"} == set(OURS)


@pytest.mark.parametrize(("name", "cls"), sorted(OURS.items()))
def test_the_section_of_an_event_type_has_its_version_and_its_fields(
    name: str, cls: type[Event]
) -> None:
    described = section(text_of("docs/events.md"), name)

    fields = [_CODE.findall(cell)[0] for cell, *_ in rows_of(described, "Field", "Type")]
    assert described.strip().startswith(f"Version {cls.SCHEMA_VERSION}.")
    assert fields == list(cls.__struct_fields__)
    assert bool(fields) != ("No fields." in described)


@pytest.mark.parametrize(("name", "cls"), sorted(OURS.items()))
def test_the_section_of_an_event_type_has_its_defaults_and_its_closed_sets(
    name: str, cls: type[Event]
) -> None:
    described = section(text_of("docs/events.md"), name)
    types = {
        _CODE.findall(cell)[0]: type_ for cell, type_, *_ in rows_of(described, "Field", "Type")
    }

    for field in msgspec.structs.fields(cls):
        assert ("default" in types[field.name]) != field.required, field.name
        for values in enums_in(field.type):
            if values is EndReason:
                assert "(#reasons)" in types[field.name]
            else:
                assert _CODE.findall(types[field.name]) == [str(value.value) for value in values]


def enums_in(annotation: object) -> list[type[Enum]]:
    """The enumerations in a field's type."""
    parts = [annotation, *getattr(annotation, "__args__", ())]
    return [part for part in parts if isinstance(part, type) and issubclass(part, Enum)]


def test_every_reason_is_explained() -> None:
    explained = [cell for cell, _ in rows_of(text_of("docs/events.md"), "Reason", "Meaning")]

    assert explained == [f"`{reason.value}`" for reason in EndReason]


# ---------------------------------------------------------------------------------- operations


def test_the_documented_metrics_are_those_that_there_are() -> None:
    exposition, _ = Metrics().render()
    documented = [
        _CODE.findall(cell)[0]
        for cell, *_ in rows_of(text_of("docs/operations.md"), "Metric", "Labels")
    ]

    assert sorted(documented) == sorted(_METRIC.findall(exposition.decode()))


def commands_in(text: str) -> Iterator[list[str]]:
    """The words after ``sessiontrail`` wherever a document gives a command."""
    fenced = [
        line for language, block in _FENCE.findall(text) if language == "sh"
        for line in block.splitlines()
    ]  # fmt: skip
    for code in [*fenced, *_CODE.findall(prose_of(text))]:
        for given in re.findall(r"(?:^|[\s(/])sessiontrail ([^)#\n]*)", code):
            yield shlex.split(given)


@each_document()
def test_every_command_that_a_document_gives_exists(document: Path) -> None:
    for words in commands_in(document.read_text(encoding="utf-8")):
        assert_is_a_command(words)


def assert_is_a_command(words: list[str]) -> None:
    found: Any = typer.main.get_command(command_line)  # Any: Typer's own click has no stubs
    rest = list(words)
    while hasattr(found, "commands"):
        assert rest, f"sessiontrail {shlex.join(words)} is only the name of a group"
        assert rest[0] in found.commands, f"there is no sessiontrail {shlex.join(words)}"
        found = found.commands[rest.pop(0)]
    options = {option for parameter in found.params for option in parameter.opts}
    options |= {option for parameter in found.params for option in parameter.secondary_opts}
    for word in rest:
        assert not word.startswith("-") or word in options, f"{words} has an unknown option"


@each_document()
def test_every_make_target_that_a_document_gives_exists(document: Path) -> None:
    targets = set(re.findall(r"^(\w+):", text_of("Makefile"), re.MULTILINE))
    text = document.read_text(encoding="utf-8")
    given = re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE)

    assert set(given) <= targets


# --------------------------------------------------------------------------------------- links


def anchors_of(document: Path) -> set[str]:
    """The anchors that the headings of a document get where it is shown."""
    headings = _HEADING.findall(prose_of(document.read_text(encoding="utf-8")))
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@each_document()
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in _LINK.findall(prose_of(document.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors_of(linked), f"{target} has no such heading"


@each_document()
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    text = prose_of(document.read_text(encoding="utf-8"))
    named = re.findall(r"`((?:[a-z]\w*/)+\w[\w.]*\.(?:py|md|json|txt))`", text)

    for path in named:
        written_by_a_run = path.startswith("bench/out/")
        assert (ROOT / path).exists() or "NNN" in path or written_by_a_run, f"there is no {path}"


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:3]) for path in sorted((ROOT / "docs/decisions").glob("*.md"))]

    assert numbers == list(range(1, len(numbers) + 1))
