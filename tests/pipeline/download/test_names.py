"""Host names: looked up once, and no address given out that is not public."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Sequence

import pytest
from thresher.pipeline.download.address import RefusedAddress
from thresher.pipeline.download.names import NameFailure, Names


class Zone:
    """A resolver whose answers are written down; those of one name are given out one by one."""

    def __init__(self, answers: dict[str, list[list[str] | OSError]]) -> None:
        self._answers = answers
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, name: str) -> Sequence[str]:
        self.go_on.wait(5)
        self.asked.append(name)
        answers = self._answers[name]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, OSError):
            raise found
        return found


def test_a_name_is_looked_up_once_however_many_ask_at_once_and_later() -> None:
    zone = Zone({"a.test": [["8.8.8.8"], ["127.0.0.1"]]})
    zone.go_on.clear()

    async def ask() -> list[list[str]]:
        names = Names(lookup=zone)
        many = [asyncio.create_task(names.addresses("a.test", 80)) for _ in range(50)]
        await asyncio.sleep(0)
        zone.go_on.set()
        found = await asyncio.gather(*many)
        return [list(map(str, ips)) for ips in (*found, await names.addresses("a.test", 443))]

    # A second answer would be the private one: rebinding is not asked for.
    assert asyncio.run(ask()) == [["8.8.8.8"]] * 51
    assert zone.asked == ["a.test"]


def test_one_who_gives_up_waiting_does_not_take_the_answer_from_the_others() -> None:
    zone = Zone({"a.test": [["8.8.8.8"]]})
    zone.go_on.clear()

    async def ask() -> str:
        names = Names(lookup=zone)
        impatient = asyncio.create_task(names.addresses("a.test", 80))
        patient = asyncio.create_task(names.addresses("a.test", 80))
        await asyncio.sleep(0.01)
        impatient.cancel()
        zone.go_on.set()
        return str((await patient)[0])

    assert asyncio.run(ask()) == "8.8.8.8"
    assert zone.asked == ["a.test"]


@pytest.mark.parametrize(
    ("addresses", "given"),
    [
        (["8.8.8.8", "127.0.0.1", "10.0.0.1", "1.1.1.1"], ["8.8.8.8", "1.1.1.1"]),
        (["fe80::1%eth0", "2606:4700::1", "::1"], ["2606:4700::1"]),
        (["127.0.0.1"], None),
        (["169.254.169.254", "fd00:ec2::254"], None),
        (["::ffff:8.8.8.8"], None),
        (["64:ff9b::a00:1"], None),
    ],
)
def test_of_a_name_with_both_kinds_only_public_addresses_are_given_out(
    addresses: list[str], given: list[str] | None
) -> None:
    async def ask() -> list[str]:
        names = Names(lookup=Zone({"a.test": [addresses]}))
        return list(map(str, await names.addresses("a.test", 80)))

    if given is None:
        with pytest.raises(RefusedAddress, match="is at"):
            asyncio.run(ask())
    else:
        assert asyncio.run(ask()) == given


def test_an_allowed_host_may_be_anywhere_and_host_and_port_only_there() -> None:
    async def ask(allow: str, port: int) -> list[str]:
        names = Names([allow], Zone({"intra.net": [["10.0.0.1"]]}))
        return list(map(str, await names.addresses("intra.net", port)))

    assert asyncio.run(ask("intra.net", 80)) == ["10.0.0.1"]
    assert asyncio.run(ask("intra.net:8080", 8080)) == ["10.0.0.1"]
    with pytest.raises(RefusedAddress):
        asyncio.run(ask("intra.net:8080", 80))


def test_a_name_that_does_not_exist_is_remembered_and_a_passing_failure_is_not() -> None:
    missing = socket.gaierror(socket.EAI_NONAME, "no such name")
    passing = socket.gaierror(socket.EAI_AGAIN, "later")
    zone = Zone({"gone.test": [missing], "busy.test": [passing, ["8.8.8.8"]], "empty.test": [[]]})

    async def ask() -> None:
        names = Names(lookup=zone)
        for name in ("gone.test", "gone.test", "empty.test"):
            with pytest.raises(NameFailure) as lasting:
                await names.addresses(name, 80)
            assert not lasting.value.again
        with pytest.raises(NameFailure) as later:
            await names.addresses("busy.test", 80)
        assert later.value.again
        assert await names.addresses("busy.test", 80) == [ipaddress.ip_address("8.8.8.8")]

    asyncio.run(ask())
    assert zone.asked == ["gone.test", "empty.test", "busy.test", "busy.test"]


def test_answers_are_forgotten_after_their_time_and_beyond_their_number() -> None:
    zone = Zone({name: [["8.8.8.8"]] for name in ("a.test", "b.test", "c.test")})

    async def ask() -> None:
        short = Names(lookup=zone, seconds=0.02)
        await short.addresses("a.test", 80)
        await short.addresses("a.test", 80)
        await asyncio.sleep(0.05)
        await short.addresses("a.test", 80)
        few = Names(lookup=zone, most=2)
        for name in ("a.test", "b.test", "c.test", "c.test", "b.test", "a.test"):
            await few.addresses(name, 80)

    asyncio.run(ask())
    assert zone.asked == ["a.test", "a.test", "a.test", "b.test", "c.test", "a.test"]


def test_a_resolver_that_is_silent_is_not_waited_for_longer_than_patience_lasts() -> None:
    zone = Zone({"a.test": [["8.8.8.8"]]})
    zone.go_on.clear()

    async def ask() -> str:
        names = Names(lookup=zone, patience=0.05)
        with pytest.raises(NameFailure, match="no answer") as silent:
            await names.addresses("a.test", 80)
        assert silent.value.again
        zone.go_on.set()
        return str((await names.addresses("a.test", 80))[0])

    assert asyncio.run(ask()) == "8.8.8.8"
    assert zone.asked == ["a.test"]
