"""The tree's key: a file of ours alone, or a variable; never made twice, never quoted."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audit.signed_notes import Signer, parse_signer
from infra.key_files import KeyRingError
from infra.settings import Settings, SettingsError
from infra.tree_key import create_tree_key, read_tree_key
from sessiontrail.tree_keys import make_tree_key, published_key, tree_signer, tree_verifier

SIGNER = Signer("example.com/log", bytes(range(32)))


def settings(folder: Path, **more: str) -> Settings:
    return Settings(data_dir=folder, issuer="https://auth.example.com:8443/", **more)  # type: ignore[arg-type]  # plain strings


def test_a_key_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "data")

    assert make_tree_key(chosen)
    first = tree_signer(chosen).exported()
    assert not make_tree_key(chosen)

    assert tree_signer(chosen).exported() == first
    assert chosen.tree_key_path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["tree.key"]


def test_of_starters_that_race_all_use_one_key(tmp_path: Path) -> None:
    keys = [Signer("example.com/log", bytes([n] * 32)).exported() for n in range(8)]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda key: create_tree_key(tmp_path / "tree.key", key), keys))

    assert sum(made) == 1
    assert read_tree_key(tmp_path / "tree.key") == keys[made.index(True)]


def test_a_log_is_named_after_the_address_that_it_is_read_under(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    make_tree_key(chosen)

    assert tree_verifier(chosen).name == "auth.example.com:8443/tlog"


def test_a_log_keeps_its_name_when_the_service_moves(tmp_path: Path) -> None:
    make_tree_key(settings(tmp_path))

    moved = Settings(data_dir=tmp_path, issuer="https://elsewhere.example.com")

    assert tree_verifier(moved).name == "auth.example.com:8443/tlog"


def test_the_key_of_another_log_is_refused(tmp_path: Path) -> None:
    make_tree_key(settings(tmp_path, tree_origin="example.com/one"))

    with pytest.raises(SettingsError, match=r"the tree's key is of 'example\.com/one'"):
        tree_signer(settings(tmp_path, tree_origin="example.com/another"))


def test_a_name_that_no_log_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SESSIONTRAIL_TREE_ORIGIN"):
        make_tree_key(settings(tmp_path, tree_origin="one log+more"))


def test_a_variable_comes_before_the_file(tmp_path: Path) -> None:
    make_tree_key(settings(tmp_path))

    chosen = settings(tmp_path, tree_key=SIGNER.exported() + "\n")

    assert tree_verifier(chosen) == SIGNER.verifier
    assert SIGNER.exported() not in repr(chosen)


def test_a_public_key_that_is_given_needs_no_other(tmp_path: Path) -> None:
    assert tree_verifier(settings(tmp_path), str(SIGNER.verifier)) == SIGNER.verifier


def test_a_service_knows_the_public_key_as_soon_as_there_is_one(tmp_path: Path) -> None:
    known = published_key(settings(tmp_path))
    before = known()

    make_tree_key(settings(tmp_path))

    assert before is None
    assert known() == tree_verifier(settings(tmp_path))


def test_a_service_may_be_given_the_public_key_alone(tmp_path: Path) -> None:
    make_tree_key(settings(tmp_path))

    assert published_key(settings(tmp_path, tree_public_key=f"{SIGNER.verifier}\n"))() == (
        SIGNER.verifier
    )


def test_a_public_key_that_is_none_is_refused_and_a_private_one_is_not_quoted(
    tmp_path: Path,
) -> None:
    private = SIGNER.exported()

    with pytest.raises(SettingsError, match="SESSIONTRAIL_TREE_PUBLIC_KEY: ") as caught:
        published_key(settings(tmp_path, tree_public_key=private))

    assert private.rpartition("+")[2] not in str(caught.value)
    assert private not in repr(settings(tmp_path, tree_public_key=private))


def test_a_missing_key_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeyRingError, match="sessiontrail audit key --new"):
        tree_signer(settings(tmp_path))


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    make_tree_key(chosen)
    chosen.tree_key_path.chmod(0o640)

    with pytest.raises(KeyRingError, match="chmod 600"):
        tree_signer(chosen)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe", b"PRIVATE+KEY+a+b+c"])
def test_a_broken_key_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tree.key"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(KeyRingError, match=r"tree\.key"):
        tree_signer(settings(tmp_path))


def test_a_broken_variable_is_not_quoted(tmp_path: Path) -> None:
    broken = SIGNER.exported()[:-2]

    with pytest.raises(KeyRingError) as caught:
        tree_signer(settings(tmp_path, tree_key=broken))

    assert broken.rpartition("+")[2] not in str(caught.value)


def test_a_key_reads_back() -> None:
    assert parse_signer(SIGNER.exported()).verifier == SIGNER.verifier
