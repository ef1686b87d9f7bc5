"""Where no broker can be had, it is said how to get one."""

from pathlib import Path

import pytest

from infra.kafka_distribution import NoKafkaError, jars, java

WAYS = r"apt install .*maven.* or set KAFKA_BOOTSTRAP_SERVERS"


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One with no programs and nothing fetched yet; returns where programs would be."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.usefixtures("bare_machine")
def test_without_java_it_is_said_how_to_get_it() -> None:
    with pytest.raises(NoKafkaError, match=f"Java 17 or newer; .*{WAYS}"):
        java()


@pytest.mark.usefixtures("bare_machine")
def test_without_maven_it_is_said_how_to_get_it() -> None:
    with pytest.raises(NoKafkaError, match=f"Maven .* not here; .*{WAYS}"):
        jars()


def test_a_maven_that_fails_leaves_nothing_and_its_words(bare_machine: Path) -> None:
    program(bare_machine / "mvn", "echo the repository is away; exit 1")

    with pytest.raises(NoKafkaError, match=r"could not fetch Kafka .* the repository is away"):
        jars()

    left = [each for each in (bare_machine.parent / "cache").rglob("*") if each.is_dir()]
    assert [each.name for each in left] == ["sessiontrail"]


def test_java_home_is_preferred(monkeypatch: pytest.MonkeyPatch, bare_machine: Path) -> None:
    home = bare_machine.parent / "home"
    (home / "bin").mkdir(parents=True)
    for folder in (bare_machine, home / "bin"):
        program(folder / "java", "")
    monkeypatch.setenv("JAVA_HOME", str(home))

    assert java() == str(home / "bin" / "java")
