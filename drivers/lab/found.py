"""A rack whose machines nobody has listed: what its first node is told, so that it finds, boots and admits the others.

The machines have nothing but their firmware (``drivers/lab/netbooted.py``). The image is a very small one, signed as
any other: nobody starts its kernel.
"""

from pathlib import Path

import msgspec

from core.ids import ImageId, ServiceName
from core.specs import ServiceSpec, Timing
from drivers.image.manifest import (
    INITRD,
    PUBLIC_KEY,
    ROOT,
    VMLINUZ,
    Manifest,
    describe,
    make_keys,
    sign,
    write_manifest,
)
from drivers.lab.layout import DATA_NET, MANAGEMENT_NET
from formats.catalog import Catalog, CatalogService, Health, Process

ACCESS = "lab"
"""What the credentials for the BMCs' network are called, and their file."""
POOL = f"{DATA_NET}.220-{DATA_NET}.239"
FILE_BYTES = {VMLINUZ: 64 << 10, INITRD: 64 << 10, ROOT: 256 << 10}
HTTP_PORT = 8_080
PROFILE = "hyperconverged"
"""What the image says it is: one with a ZooKeeper server, so that the ensemble grows as machines join."""
HURRIED = {
    "scan_ms": 3_000,
    "boot_ms_max": 40_000,
    "backoff_ms": 8_000,
    "backoff_ms_max": 15_000,
    "stable_ms": 30_000,
}
"""Such machines boot in seconds: one that is not up by then has failed. Only where a scenario says nothing else."""


def hurried(timing: Timing) -> Timing:
    """The timers of a scenario, quicker where it leaves them as they are on real servers."""
    default = Timing()
    own = {name: ms for name, ms in HURRIED.items() if getattr(timing, name) == getattr(default, name)}
    return msgspec.structs.replace(timing, **own)


def with_netboot(catalog: Catalog) -> Catalog:
    """The catalog with the service that boots machines as it is; last if it was missing: the others keep their ports.

    Nothing in it demands more than a machine that was found has, which says how large this computer is.
    """
    services = tuple(map(_frugal, catalog.services))
    netboot = msgspec.structs.replace(
        services[0],
        spec=ServiceSpec(name=ServiceName("netboot"), run="everywhere", start_ms_max=60_000),
        health=Health(kind="http", port=HTTP_PORT, path="/health", every_ms=5_000),
        process=Process(command=("{python}", "-m", "drivers.cli", "netboot", "--config", "{config}")),
    )
    there = [one.spec.name for one in services]
    at = there.index(netboot.spec.name) if netboot.spec.name in there else len(services)
    return msgspec.structs.replace(catalog, services=(*services[:at], netboot, *services[at + 1 :]))


def _frugal(service: CatalogService) -> CatalogService:
    return msgspec.structs.replace(service, spec=msgspec.structs.replace(service.spec, cores=0, memory_bytes=0))


def networks() -> dict[str, object]:
    """The tables of an inventory that say where machines are looked for, and where they boot."""
    access = {"name": ACCESS, "driver": "ipmi", "user": "admin", "password_file": f"passwords/{ACCESS}"}
    network = {"name": "mgmt", "subnet": f"{MANAGEMENT_NET}.0/24", "rack": "r1", "power_domain": "p1"}
    return {"network": [{**network, "access": [access]}], "boot": {"subnet": f"{DATA_NET}.0/24", "pool": POOL}}


def settings(folder: Path) -> dict[str, object]:
    """What the first node's configuration says about booting others; makes and signs the image."""
    images = folder / "images"
    return {
        "netboot": {
            "interface": "eth0",
            "images": images,
            "image": _image(images, folder / "image-keys"),
            "ca": folder / "rack" / "ca",
        }
    }


def _image(images: Path, keys: Path) -> ImageId:
    images.mkdir(mode=0o700)
    private, public = make_keys(keys)
    (images / PUBLIC_KEY).write_bytes(public.read_bytes())
    build = images / "build"
    build.mkdir()
    for name, size in FILE_BYTES.items():
        (build / name).write_bytes((f"{name} of the lab\n".encode() * size)[:size])
    files = describe(build, tuple(FILE_BYTES))
    image = write_manifest(build, Manifest(format=1, profile=PROFILE, version="1", cmdline="quiet", files=files))
    sign(build, private)
    build.rename(images / image)
    return image
