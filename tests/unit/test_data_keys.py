"""Unwrapped data keys in memory: kept while somebody asks for them, and not much longer."""

from infra.sealing import DataKey, DataKeys, MasterKeys

ADA = "0195513a-0000-7000-8000-00000000ada1"


def data_keys(max_cached: int = 10) -> DataKeys:
    return DataKeys(MasterKeys(1, {1: bytes(range(32))}), max_cached)


def is_kept(keys: DataKeys, wrapped: bytes, before: DataKey) -> bool:
    return keys.unwrap(wrapped, ADA) is before


def test_a_key_that_is_asked_for_is_kept() -> None:
    keys = data_keys()
    wrapped = keys.new(ADA)
    key = keys.unwrap(wrapped, ADA)

    for _ in range(5):
        keys.forget_unused()
        assert is_kept(keys, wrapped, key)


def test_a_key_that_nobody_asks_for_is_dropped_the_second_time() -> None:
    keys = data_keys()
    wrapped = keys.new(ADA)
    key = keys.unwrap(wrapped, ADA)

    keys.forget_unused()
    keys.forget_unused()

    assert not is_kept(keys, wrapped, key)


def test_there_are_never_more_than_so_many() -> None:
    keys = data_keys(max_cached=3)
    wrapped = [keys.new(ADA) for _ in range(4)]
    first, *_ = [keys.unwrap(each, ADA) for each in wrapped[:2]]
    keys.forget_unused()
    others = [keys.unwrap(each, ADA) for each in wrapped[2:]]

    assert all(map(is_kept, [keys] * 2, wrapped[2:], others))
    assert not is_kept(keys, wrapped[0], first)
