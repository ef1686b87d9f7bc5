"""Client addresses and contexts: one spelling for an address, and when two clients are one."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.client import ClientContext, canonical_ip, network_of, same_client
from tests.unit.domain.builders import (
    KEYED_LAPTOP,
    KEYED_LAPTOP_ELSEWHERE,
    KEYED_THIEF,
    LAPTOP,
    LAPTOP_UPDATED,
    PHONE,
)

AGENT = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/134.0.0.0 Safari/537.36"
UPDATED_AGENT = "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_1) Chrome/135.0.1.22 Safari/537.36"
OTHER_AGENT = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Firefox/134.0"
ADDRESSES = st.ip_addresses().map(str)
USER_AGENTS = st.none() | st.sampled_from([AGENT, UPDATED_AGENT, OTHER_AGENT])
CONTEXTS = st.builds(
    ClientContext,
    ip=st.none() | st.sampled_from(["192.0.2.1", "192.0.2.9", "2001:db8::1"]) | ADDRESSES,
    user_agent=USER_AGENTS,
    device_key=st.none() | st.sampled_from(["a" * 22, "b" * 22]),
)


@pytest.mark.parametrize(
    ("spelled", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:8080", "192.0.2.1"),
        (" 192.0.2.1\t", "192.0.2.1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("64:ff9b::1.2.3.4", "1.2.3.4"),
        ("64:ff9b:1::1.2.3.4", "64:ff9b:1::102:304"),
        ("::FFFF:102:304", "1.2.3.4"),
        ("0:0:0:0:0:ffff:1.2.3.4", "1.2.3.4"),
        ("[::ffff:1.2.3.4]:443", "1.2.3.4"),
        ("::ffff:1.2.3.4%eth0", "1.2.3.4"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:443", "fe80::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("2001:db8:0:0:1::", "2001:db8:0:0:1::"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::1", "::1"),
        ("::", "::"),
        ("::1.2.3.4", "::102:304"),
    ],
)
def test_ipv6_and_mapped(spelled: str, canonical: str) -> None:
    assert canonical_ip(spelled) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "unknown",
        "localhost",
        "1.2.3",
        "1.2.3.256",
        "01.2.3.4",
        "0x7f.1",
        "2130706433",
        "\u0661.2.3.4",
        "1.2.3.4, 5.6.7.8",
        "2001:db8::1::2",
        "2001:db8::12345",
        "[",
        "[]:443",
        ":8080",
        "192.0.2.1/24",
        "a" * 100_000,
        ":" * 100_000,
        "1.2.3.4\x00",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert canonical_ip(text) is None


@given(text=st.text())
def test_any_text_is_an_address_or_none(text: str) -> None:
    canonical = canonical_ip(text)

    assert canonical is None or str(ip_address(canonical)) == canonical


@given(address=ADDRESSES)
def test_a_canonical_address_is_its_own_canonical_form(address: str) -> None:
    canonical = canonical_ip(address)

    assert canonical is not None
    assert canonical_ip(canonical) == canonical_ip(f" {canonical} ") == canonical


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.0", "203.0.113.0/24"),
        ("203.0.113.255", "203.0.113.0/24"),
        ("203.0.114.0", "203.0.114.0/24"),
        ("0.0.0.0", "0.0.0.0/24"),
        ("255.255.255.255", "255.255.255.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
    ],
)
def test_a_network_is_the_prefix_of_its_addresses(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # A device key decides where either side has one, whatever else says.
        (KEYED_LAPTOP, KEYED_LAPTOP_ELSEWHERE, True),
        (KEYED_LAPTOP, KEYED_THIEF, False),
        (KEYED_LAPTOP, LAPTOP, False),
        (ClientContext(device_key="k"), ClientContext(device_key="k"), True),
        # Without one, network and browser must both agree.
        (LAPTOP, LAPTOP, True),
        (LAPTOP, LAPTOP_UPDATED, True),
        (LAPTOP, PHONE, False),
        (ClientContext("192.0.2.1", AGENT), ClientContext("192.0.2.254", UPDATED_AGENT), True),
        (ClientContext("192.0.2.1", AGENT), ClientContext("192.0.2.1", OTHER_AGENT), False),
        (ClientContext("192.0.2.1", AGENT), ClientContext("192.0.3.1", AGENT), False),
        (ClientContext("2001:db8::1", AGENT), ClientContext("2001:db8::ffff:1", AGENT), True),
        (ClientContext("2001:db8::1", AGENT), ClientContext("2001:db8:0:1::1", AGENT), False),
        (ClientContext("192.0.2.1", AGENT), ClientContext("2001:db8::1", AGENT), False),
        # No user agent is a user agent like another; an empty header is none.
        (ClientContext("192.0.2.1"), ClientContext("192.0.2.1"), True),
        (ClientContext("192.0.2.1"), ClientContext("192.0.2.1", ""), True),
        (ClientContext("192.0.2.1"), ClientContext("192.0.2.1", AGENT), False),
        # An unknown address agrees with nothing, not even with itself.
        (ClientContext(None, AGENT), ClientContext(None, AGENT), False),
        (ClientContext(None, AGENT), ClientContext("192.0.2.1", AGENT), False),
        # A missing hint is unknown, not a mismatch.
        (
            ClientContext("192.0.2.1", AGENT, {"sec-ch-ua-platform": "macOS"}),
            ClientContext("192.0.2.1", AGENT),
            True,
        ),
    ],
)
def test_same_client(one: ClientContext, other: ClientContext, same: bool) -> None:
    assert same_client(one, other) is same
    assert same_client(other, one) is same


@given(one=CONTEXTS, other=CONTEXTS)
def test_being_the_same_client_is_mutual(one: ClientContext, other: ClientContext) -> None:
    assert same_client(one, other) == same_client(other, one)


@given(context=CONTEXTS)
def test_a_client_that_says_who_it_is_is_the_same_as_itself(context: ClientContext) -> None:
    known = context.device_key is not None or context.ip is not None

    assert same_client(context, context) == known
