"""The key ring, on real files."""

import json
import os
import stat
import traceback
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domain.ids import FamilyId, SessionId
from domain.refresh_token import RefreshToken, TokenKeys, mint, parse
from infra.key_files import (
    KeyRing,
    KeyRingError,
    create_key_file,
    load_key_ring,
    rotate_master_key,
    rotate_token_key,
)
from infra.sealing import MasterKeys

ONE = b"\x01" * 32
TWO = b"\x02" * 32


def encoded(key: bytes) -> str:
    return b64encode(key).decode()


def variable(**keys: bytes) -> str:
    return ",".join(f"{name.removeprefix('k')}:{encoded(key)}" for name, key in keys.items())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_key_file(path: Path, content: object) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)


def content_with(
    master: bytes = ONE, token: bytes = ONE, current: int = 1, **more: object
) -> dict[str, object]:
    return {
        "format": 1,
        "master": {"current": current, "keys": {"1": encoded(master)}},
        "token": {"current": 1, "keys": {"1": encoded(token)}},
        **more,
    }


def all_that_is_printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "keys.json"
    assert create_key_file(path)
    return path


class TestTheFile:
    def test_a_new_file_and_its_new_folder_are_closed_to_everybody_else(
        self, key_file: Path
    ) -> None:
        assert mode_of(key_file) == 0o600
        assert mode_of(key_file.parent) == 0o700

    def test_a_new_file_holds_fresh_keys_of_32_bytes(self, tmp_path: Path) -> None:
        create_key_file(tmp_path / "one.json")
        create_key_file(tmp_path / "two.json")

        rings = [load_key_ring(tmp_path / name, None, None) for name in ("one.json", "two.json")]

        keys = [ring.masters.keys[1] for ring in rings] + [ring.tokens.keys[1] for ring in rings]
        assert {len(key) for key in keys} == {32}
        assert len(set(keys)) == 4

    def test_an_existing_file_is_never_made_anew(self, key_file: Path) -> None:
        before = key_file.read_bytes()

        made = create_key_file(key_file)

        assert made is False
        assert key_file.read_bytes() == before

    def test_starters_that_race_agree_on_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "keys.json"

        def start(_: int) -> tuple[bool, bytes]:
            made = create_key_file(path)
            return made, load_key_ring(path, None, None).tokens.keys[1]

        with ThreadPoolExecutor(16) as starters:
            outcomes = list(starters.map(start, range(64)))

        assert [made for made, _ in outcomes].count(True) == 1
        assert len({key for _, key in outcomes}) == 1
        assert list(path.parent.iterdir()) == [path]

    def test_a_folder_that_cannot_be_made_is_said_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file, not a folder")

        with pytest.raises(KeyRingError, match="cannot be written") as caught:
            create_key_file(tmp_path / "taken" / "keys.json")

        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
    def test_a_file_open_to_other_accounts_is_refused(self, key_file: Path, mode: int) -> None:
        key_file.chmod(mode)

        with pytest.raises(KeyRingError, match="chmod 600"):
            load_key_ring(key_file, None, None)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            encoded(TWO),
            [],
            {"format": 1},
            content_with(format=2),
            content_with(more=1),
            content_with(master=TWO[:31]),
            content_with(master=TWO + b"\x02"),
            content_with(token=TWO[:31]),
            content_with(current=2),
            content_with() | {"master": {"current": 1, "keys": {}}},
            content_with() | {"token": {"current": 0, "keys": {"0": encoded(TWO)}}},
            content_with() | {"token": {"current": 65536, "keys": {"65536": encoded(TWO)}}},
            content_with() | {"token": {"current": 1, "keys": {encoded(TWO): encoded(TWO)}}},
            content_with() | {"token": {"current": 1, "keys": {"1": encoded(TWO)[:-3] + "!"}}},
        ],
    )
    def test_a_malformed_file_is_refused_in_one_line_without_a_key(
        self, tmp_path: Path, content: object
    ) -> None:
        path = tmp_path / "keys.json"
        write_key_file(path, content)

        with pytest.raises(KeyRingError, match="restore it from your backup") as caught:
            load_key_ring(path, None, None)

        assert "\n" not in str(caught.value)
        assert encoded(TWO)[:16] not in all_that_is_printed(caught.value)

    def test_a_missing_file_is_refused_and_not_made(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"

        with pytest.raises(KeyRingError, match="there is no key file"):
            load_key_ring(path, None, None)

        assert not path.exists()

    def test_a_folder_in_the_place_of_the_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(KeyRingError, match="cannot be read"):
            load_key_ring(tmp_path, None, None)


class TestTheVariables:
    def test_the_highest_id_is_the_current_key(self) -> None:
        ring = load_key_ring(None, variable(k9=ONE, k10=TWO), variable(k2=TWO, k1=ONE))

        assert (ring.masters.current_id, ring.tokens.current_id) == (10, 2)
        assert ring.masters.keys == {9: ONE, 10: TWO}
        assert ring.tokens.keys == {1: ONE, 2: TWO}

    def test_a_token_key_may_be_longer_than_32_bytes(self) -> None:
        ring = load_key_ring(None, variable(k1=ONE), variable(k1=ONE + TWO))

        assert ring.tokens.keys[1] == ONE + TWO

    def test_each_kind_that_has_no_variable_comes_from_the_file(self, key_file: Path) -> None:
        in_file = load_key_ring(key_file, None, None)

        with_master = load_key_ring(key_file, variable(k7=TWO), None)
        with_token = load_key_ring(key_file, None, variable(k7=TWO))

        assert with_master.masters.keys == {7: TWO}
        assert with_master.tokens == in_file.tokens
        assert with_token.masters.keys == in_file.masters.keys
        assert with_token.tokens.keys == {7: TWO}

    def test_with_both_variables_no_file_is_read(self, tmp_path: Path) -> None:
        ring = load_key_ring(tmp_path / "missing.json", variable(k1=ONE), variable(k1=TWO))

        assert ring.masters.keys == {1: ONE}

    @pytest.mark.parametrize(
        ("master", "token", "kind"),
        [(None, None, "master"), (variable(k1=ONE), None, "token"), ("", "", "master")],
    )
    def test_keys_that_come_from_nowhere_are_refused(
        self, master: str | None, token: str | None, kind: str
    ) -> None:
        with pytest.raises(KeyRingError, match=f"there are no {kind} keys"):
            load_key_ring(None, master, token)

    @pytest.mark.parametrize(
        "text",
        [
            encoded(TWO),
            f"1={encoded(TWO)}",
            f"0:{encoded(TWO)}",
            f"65536:{encoded(TWO)}",
            f"1:{encoded(TWO[:31])}",
            f"1:{encoded(TWO)}!",
            f"1:{encoded(TWO)[:-1]}",
            f"1:{encoded(TWO)},",
            f"1:{encoded(TWO)},1:{encoded(TWO)}",
            f"x:{encoded(TWO)}",
            f"-1:{encoded(TWO)}",
            ",",
        ],
    )
    @pytest.mark.parametrize("kind", ["master", "token"])
    def test_a_malformed_variable_is_refused_in_one_line_without_a_key(
        self, kind: str, text: str
    ) -> None:
        good = variable(k1=ONE)

        with pytest.raises(KeyRingError) as caught:
            load_key_ring(
                None, text if kind == "master" else good, text if kind == "token" else good
            )

        assert "\n" not in str(caught.value)
        assert encoded(TWO)[:16] not in str(caught.value)
        assert encoded(TWO)[:16] not in repr(caught.value.__cause__)

    def test_a_master_key_has_exactly_32_bytes(self) -> None:
        with pytest.raises(KeyRingError, match="of 64 bytes"):
            load_key_ring(None, variable(k1=ONE + TWO), variable(k1=ONE))


class TestRotation:
    def test_a_token_minted_before_a_rotation_still_verifies(self, key_file: Path) -> None:
        before = load_key_ring(key_file, None, None).tokens
        token = RefreshToken(
            key_id=before.current_id,
            family_id=FamilyId("0190b6a2-7b7e-7c39-9d5f-2f8d8a5e2b13"),
            session_id=SessionId("0190b6a2-7b7e-7c39-9d5f-2f8d8a5e2b12"),
            generation=1,
            secret=os.urandom(32),
        )
        text = mint(token, before)

        added = rotate_token_key(key_file)

        after = load_key_ring(key_file, None, None).tokens
        assert after.current_id == added == 2
        assert parse(text, after) == token

    def test_what_an_old_master_key_wrapped_still_opens(self, key_file: Path) -> None:
        before = load_key_ring(key_file, None, None).masters
        wrapped = before.wrap(b"secret", "owner")

        added = rotate_master_key(key_file)

        after = load_key_ring(key_file, None, None).masters
        assert after.current_id == added == 2
        assert after.unwrap(wrapped, "owner") == b"secret"
        assert after.wrap(b"secret", "owner")[:2] == b"\x00\x02"

    def test_a_rotation_of_one_kind_leaves_the_other_alone(self, key_file: Path) -> None:
        before = load_key_ring(key_file, None, None)

        rotate_token_key(key_file)

        after = load_key_ring(key_file, None, None)
        assert (after.masters.current_id, after.masters.keys) == (1, before.masters.keys)

    def test_the_replaced_file_stays_closed_and_leaves_nothing_beside_it(
        self, key_file: Path
    ) -> None:
        rotate_master_key(key_file)

        assert mode_of(key_file) == 0o600
        assert list(key_file.parent.iterdir()) == [key_file]

    def test_a_link_to_the_file_stays_a_link(self, key_file: Path, tmp_path: Path) -> None:
        link = tmp_path / "link.json"
        link.symlink_to(key_file)

        rotate_token_key(link)

        assert link.is_symlink()
        assert load_key_ring(key_file, None, None).tokens.current_id == 2

    def test_of_many_who_rotate_at_once_none_loses_the_key_of_another(self, key_file: Path) -> None:
        def rotate(number: int) -> int:
            return (rotate_token_key if number % 2 else rotate_master_key)(key_file)

        with ThreadPoolExecutor(8) as rotators:
            added = sorted(rotators.map(rotate, range(16)))

        ring = load_key_ring(key_file, None, None)
        assert added == sorted([*range(2, 10), *range(2, 10)])
        assert sorted(ring.masters.keys) == sorted(ring.tokens.keys) == list(range(1, 10))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can own a file for another account")
    def test_root_that_rotates_leaves_the_file_to_its_owner(self, key_file: Path) -> None:
        os.chown(key_file, 12345, 23456)

        rotate_token_key(key_file)

        assert (key_file.stat().st_uid, key_file.stat().st_gid) == (12345, 23456)

    @pytest.mark.parametrize("rotate", [rotate_token_key, rotate_master_key])
    def test_a_file_that_is_missing_or_open_to_others_is_not_rotated(
        self, tmp_path: Path, key_file: Path, rotate: Callable[[Path], int]
    ) -> None:
        key_file.chmod(0o644)
        before = key_file.read_bytes()

        with pytest.raises(KeyRingError, match="there is no key file"):
            rotate(tmp_path / "missing.json")
        with pytest.raises(KeyRingError, match="chmod 600"):
            rotate(key_file)

        assert key_file.read_bytes() == before

    def test_a_ring_without_a_free_id_is_not_rotated(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"
        last = {"current": 65535, "keys": {"65535": encoded(ONE)}}
        write_key_file(path, {"format": 1, "master": last, "token": last})

        with pytest.raises(KeyRingError, match="used up"):
            rotate_token_key(path)

        assert load_key_ring(path, None, None).tokens.current_id == 65535


def test_no_key_is_shown_when_a_ring_is_printed() -> None:
    ring = KeyRing(MasterKeys(1, {1: b"MASTER-" * 5}), TokenKeys(2, {1: b"TOKEN-" * 6, 2: ONE}))

    printed = f"{ring!r} {ring} {ring.masters!r} {ring.tokens!r}"

    assert "MASTER-" not in printed
    assert "TOKEN-" not in printed
    assert "TokenKeys(current_id=2, ids=[1, 2])" in printed
