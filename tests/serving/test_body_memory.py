"""How the memory for bodies is shared out."""

import pytest

from gsop.api.http.body_limits import FIRST_SECONDS, BodyLimits
from gsop.errors import ClientOverloaded, Overloaded
from gsop.serving.body_memory import BodyMemory
from gsop.serving.clients import client_of


def test_no_client_has_more_than_its_share() -> None:
    memory = BodyMemory(100, 60)
    with memory.share("a") as one, memory.share("a") as two, memory.share("b") as other:
        one.add(50)
        with pytest.raises(ClientOverloaded):
            two.expect(11)  # before a byte of it has been read
        two.add(10)
        with pytest.raises(ClientOverloaded):
            one.add(1)
        other.expect(40)
        other.add(40)
        with pytest.raises(Overloaded, match="other requests"):
            other.add(1)
    assert (memory.free, dict(memory.of_client)) == (100, {})


def test_a_body_that_keeps_its_rate_has_all_of_its_time() -> None:
    limits = BodyLimits(10**6, 30.0, 1000)
    assert limits.seconds_for(0) == FIRST_SECONDS
    assert limits.seconds_for(5000) == FIRST_SECONDS + 5
    assert limits.seconds_for(10**6) == 30.0
    assert limits._replace(rate=0).seconds_for(0) == 30.0
    assert limits._replace(seconds=1.0).seconds_for(0) == 1.0


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("ipv4:192.0.2.1", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2::9%5D", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D", "192.0.2.1"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_an_address_counts_with_those_of_its_network(address: str, name: str) -> None:
    assert client_of(address) == name
