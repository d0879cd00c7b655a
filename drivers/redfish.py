"""Power over Redfish: HTTPS with the standard library, one connection a login, every request bounded by the limit.

No library: four requests of the standard (DSP0266, DSP0268) are all that power needs, and each can be timed and told
apart by what is known after it failed.
"""

import errno
import http.client
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from drivers.bmc import BmcFailure, Chassis, Kind, Limit, Sensor, Survey, default_password, password_of, same_uuid
from drivers.clock import now_ms
from drivers.config import BmcTable, Machine

PORT = 443
ROOT = "/redfish/v1"
ANSWER_BYTES_MAX = 4 << 20
SYSTEMS_MAX = 64
SENSORS_MAX = 500

RESETS = {True: ("On", "ForceOn"), False: ("ForceOff",)}
"""Reset types that switch on or off at once, best first. Source: DMTF DSP0268, Resource.ResetType."""

OFF = "Off"
"""Of the power states only this one is off; "PoweringOff" still is on. Source: DSP0268, Resource.PowerState."""


class Redfish:
    """The BMC of one machine: ``drivers.bmc.Bmc``."""

    def __init__(self, table: BmcTable) -> None:
        self._table = table
        self._path = ""

    @contextmanager
    def login(self, limit: Limit) -> Iterator[Chassis]:
        """Open a connection for one block; each request carries the password. Raises: BmcFailure."""
        with _connected(self._table, limit) as web:
            path, self._path = self._path or _find(web, self._table.system), ""
            yield _System(web, path)
            self._path = path  # not after a failure: another firmware may name it otherwise


class _Web:
    """One connection to one BMC."""

    def __init__(self, table: BmcTable, password: str, limit: Limit) -> None:
        self._limit = limit
        word = b64encode(f"{table.user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {word}", "Accept": "application/json", "OData-Version": "4.0"}
        port, seconds = table.port or PORT, max(limit.left_ms, 1) / 1_000
        self._http: http.client.HTTPConnection
        if table.tls:
            context = _trust(table)
            self._http = http.client.HTTPSConnection(table.address, port, timeout=seconds, context=context)
        else:
            self._http = http.client.HTTPConnection(table.address, port, timeout=seconds)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str) -> dict[str, Any]:
        """Read one resource. Raises: BmcFailure."""
        return self.send("GET", path)

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None, tag: str = "") -> dict[str, Any]:
        """Make one request and return the resource that answers it, with its ETag. Raises: BmcFailure."""
        if not path.startswith("/"):
            raise BmcFailure("failed", f"the BMC names a resource {path!r}, which is no path")
        self._limit.check(f"{method} {path}")
        headers = self._headers | ({"If-Match": tag} if tag else {})
        data = None
        if body is not None:
            data, headers = msgspec.json.encode(body), headers | {"Content-Type": "application/json"}
        self._http.timeout = self._limit.left_ms / 1_000
        if self._http.sock is None:
            with _translated(f"{method} {path}", greeting=True):
                self._http.connect()
        if self._http.sock is not None:
            self._http.sock.settimeout(max(self._limit.left_ms, 1) / 1_000)
        with _translated(f"{method} {path}"):
            self._http.request(method, path, data, headers)
            answer = self._http.getresponse()
            raw = answer.read(ANSWER_BYTES_MAX)
        if answer.status >= http.client.BAD_REQUEST:
            raise _refusal(answer.status, raw, f"{method} {path}")
        found = _decode(raw)
        return found | {"@odata.etag": answer.getheader("ETag") or found.get("@odata.etag", "")}


class _System:
    """The chassis commands of one connection; ``path`` is the machine's ComputerSystem."""

    def __init__(self, web: _Web, path: str) -> None:
        self._web = web
        self.path = path
        self.resource: dict[str, Any] = {}

    def is_on(self) -> bool:
        self.resource = self._web.get(self.path)
        state = self.resource.get("PowerState")
        if not isinstance(state, str):
            raise BmcFailure("failed", f"{self.path} has no PowerState")
        return state != OFF

    def switch(self, on: bool) -> None:
        reset = _part(_part(self.resource, "Actions"), "#ComputerSystem.Reset")
        allowed = reset.get("ResetType@Redfish.AllowableValues")
        wanted = [kind for kind in RESETS[on] if not isinstance(allowed, list) or kind in allowed]
        if not wanted:
            raise BmcFailure("failed", f"{self.path} offers none of the resets {', '.join(RESETS[on])}")
        target = str(reset.get("target") or f"{self.path}/Actions/ComputerSystem.Reset")
        self._web.send("POST", target, {"ResetType": wanted[0]})

    def boot_from_network(self) -> None:
        boot = {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}
        self._web.send("PATCH", self.path, {"Boot": boot}, tag=str(self.resource.get("@odata.etag", "")))

    def identity(self) -> str:
        try:
            return UUID(str((self.resource or self._web.get(self.path)).get("UUID", ""))).hex
        except ValueError:
            return ""


def survey(machine: Machine, limit_ms: int, uuid_wanted: str = "") -> Survey:
    """Ask a machine's BMC for everything that ``rack check`` shows; never raises for what a BMC does or lacks.

    ``uuid_wanted``: the machine's UUID if the inventory knows it. The log is not read: its place differs by vendor.
    """
    table, started_ms = machine.bmc, now_ms()
    limit = Limit(now_ms, started_ms + limit_ms)
    try:
        vendor = default_password(table.user, password_of(table))
        with _connected(table, limit) as web:
            system = _System(web, _find(web, table.system))
            on = system.is_on()
            sensors = _sensors(web, system.resource)
    except BmcFailure as failure:
        return Survey(problem=failure.detail, kind=failure.kind, took_ms=now_ms() - started_ms)
    uuids = (str(system.resource.get("UUID", "")).lower(),)
    health = _part(system.resource, "Status").get("Health")
    warnings = [f"{sensor.name} is {sensor.value}" for sensor in sensors if not sensor.ok]
    warnings += [f"its health is {health}"] if health not in (None, "OK") else []
    if vendor:
        warnings.append(f"its password is the factory default of {vendor}; set another at the BMC and in password_file")
    if not table.tls:
        warnings.append("tls is false: its password crosses the network in clear; set tls = true")
    elif table.ca is None:
        warnings.append("its certificate is not verified; name in ca what it must be signed by (or the certificate)")
    matches = same_uuid(uuid_wanted, uuids)
    if matches is False:
        warnings.append(f"its UUID is {uuids[0]}, not the inventory's {uuid_wanted}: is the cable in another machine?")
    return Survey(
        on=on,
        uuids=uuids,
        matches=matches,
        boot_device=str(_part(system.resource, "Boot").get("BootSourceOverrideTarget", "")).lower(),
        sensors=sensors,
        default_password=vendor,
        warnings=tuple(warnings),
        took_ms=now_ms() - started_ms,
    )


def _sensors(web: _Web, system: Mapping[str, Any]) -> tuple[Sensor, ...]:
    """Temperatures and fans of the machine's chassis; nothing where a BMC does not have them."""
    found: list[Sensor] = []
    try:
        for chassis in _paths(_part(system, "Links").get("Chassis")):
            thermal = web.get(str(_part(web.get(chassis), "Thermal").get("@odata.id", "")))
            readings = [(entry, "ReadingCelsius", "°C") for entry in _list(thermal.get("Temperatures"))]
            readings += [(entry, "Reading", "") for entry in _list(thermal.get("Fans"))]
            for entry, key, unit in readings[: SENSORS_MAX - len(found)]:
                health = _part(entry, "Status").get("Health", "OK")
                text = f"{entry.get(key, 'absent')} {unit}".strip()
                found.append(Sensor(name=str(entry.get("Name", "")), value=text, ok=health in ("OK", None)))
    except BmcFailure:
        return tuple(found)
    return tuple(found)


def _find(web: _Web, wanted: str) -> str:
    """Return the path of the machine's ComputerSystem: the only one, or the one whose Id, name or UUID is wanted."""
    members = _paths(web.get(f"{ROOT}/Systems").get("Members"))[:SYSTEMS_MAX]
    if not wanted and len(members) == 1:
        return members[0]
    for path in members:
        if not wanted:
            break
        resource = web.get(path)
        if wanted.lower() in (str(resource.get(key, "")).lower() for key in ("Id", "UUID", "Name")):
            return path
    how = f"none is {wanted!r}" if wanted else "name one in bmc.system"
    raise BmcFailure("failed", f"the BMC serves {len(members)} systems; {how}")


@contextmanager
def _connected(table: BmcTable, limit: Limit) -> Iterator[_Web]:
    web = _Web(table, password_of(table), limit)
    try:
        yield web
    finally:
        web.close()


def _trust(table: BmcTable) -> ssl.SSLContext:
    """Decide what a BMC's certificate must be: signed by ``ca``, whatever name it has; BMCs know none that matters."""
    if table.ca is not None:
        return trusted_by(table.ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def trusted_by(ca: Path) -> ssl.SSLContext:
    """Trust whoever shows a certificate that one of this file signed, or that is one of it. Raises: BmcFailure."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        reason = "holds no certificate"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            reason = (error.strerror or str(error)).lower()
        raise BmcFailure("untrusted", f"ca {ca}: {reason}; needed: a PEM file with certificates") from error
    return context


@contextmanager
def _translated(doing: str, *, greeting: bool = False) -> Iterator[None]:
    """Turn what the network and TLS raise into a BmcFailure. ``greeting``: nothing but the handshake is under way."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise BmcFailure("untrusted", f"its certificate is not what ca allows: {error.verify_message}") from error
    except ssl.SSLError as error:
        reason = (error.reason or type(error).__name__).lower().replace("_", " ")
        if greeting:
            raise BmcFailure("untrusted", f"speaks no TLS that can be relied on ({reason})") from error
        raise BmcFailure("silent", f"{reason}: {doing}") from error
    except TimeoutError as error:
        raise BmcFailure("silent", f"no answer within the limit: {doing}") from error
    except ConnectionRefusedError as error:
        raise BmcFailure("unreachable", f"nothing listens there: {doing}") from error
    except OSError as error:
        nothing_sent = error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
        kind: Kind = "unreachable" if nothing_sent else "silent"
        raise BmcFailure(kind, f"{error.strerror or type(error).__name__}: {doing}") from error
    except http.client.HTTPException as error:
        raise BmcFailure("silent", f"{type(error).__name__}: {doing}") from error


def _refusal(status: int, raw: bytes, doing: str) -> BmcFailure:
    """Translate an HTTP status. A 409 or 400 for a reset may mean "already so": whoever ordered reads back."""
    said = _part(_decode(raw), "error").get("message", "")
    words = f"{status} {http.client.responses.get(status, '')} {said}".strip()
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        return BmcFailure("credentials", f"the BMC refuses user or password: {words}: {doing}")
    if status == http.client.SERVICE_UNAVAILABLE:
        return BmcFailure("unreachable", f"{words}: {doing}")
    return BmcFailure("failed", f"{words}: {doing}")


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(raw) if raw else {}
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _part(resource: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = resource.get(key)
    return found if isinstance(found, dict) else {}


def _list(found: object) -> list[dict[str, Any]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _paths(found: object) -> list[str]:
    return [str(entry["@odata.id"]) for entry in _list(found) if "@odata.id" in entry]
