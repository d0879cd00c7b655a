"""A real Redfish service: the emulator of sushy-tools with its fake driver, in a process of its own.

Run as a program it is that process. The fake driver takes a random 1 to 11 s for a change of state; here it is 1.
"""

import http.client
import os
import signal
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import bcrypt
import msgspec
import pytest

ROOT = Path(__file__).parents[2]
USER = "admin"
UUID = "27946b59-9e44-4fa7-8e91-f3527a1ef094"
OTHER = "37946b59-9e44-4fa7-8e91-f3527a1ef095"
READY_S_MAX = 30


class Emulator:
    """The running emulator; ``port`` is on 127.0.0.1."""

    def __init__(self, folder: Path, port: int, password: str, systems: int = 1, cert: Path | None = None) -> None:
        pytest.importorskip("sushy_tools")
        self.folder, self.port, self._password = folder, port, password
        self._cert = cert
        folder.mkdir(parents=True, exist_ok=True)
        digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()
        (folder / "htpasswd").write_text(f"{USER}:{digest}\n", encoding="utf-8")
        command = [sys.executable, str(Path(__file__)), str(folder), str(port), str(systems)]
        self._log = (folder / "emulator.log").open("wb")
        command += [str(cert)] if cert else []
        inside = os.environ | {"TMPDIR": str(folder)}
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, cwd=ROOT, env=inside)
        until = time.monotonic() + READY_S_MAX
        while time.monotonic() < until and not self._answers():
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
        self.close()
        raise RuntimeError((folder / "emulator.log").read_text(encoding="utf-8")[-2_000:])

    @property
    def is_on(self) -> bool:
        return self._system()["PowerState"] == "On"

    @property
    def boot_target(self) -> str:
        boot = self._system()["Boot"]
        assert isinstance(boot, dict)
        return str(boot["BootSourceOverrideTarget"])

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def be_contrary(self) -> None:
        """Answer an order that is fulfilled already with an error from now on."""
        (self.folder / "contrary").touch()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._log.close()

    def _system(self) -> dict[str, object]:
        connection = self._connection()
        word = b64encode(f"{USER}:{self._password}".encode()).decode()
        try:
            connection.request("GET", f"/redfish/v1/Systems/{UUID}", headers={"Authorization": f"Basic {word}"})
            found: dict[str, object] = msgspec.json.decode(connection.getresponse().read())
            return found
        finally:
            connection.close()

    def _answers(self) -> bool:
        connection = self._connection()
        try:
            connection.request("GET", "/redfish/v1/")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._cert is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        context = ssl.create_default_context(cafile=str(self._cert))
        context.check_hostname = False
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context)


def main() -> None:
    """Serve until killed: FOLDER PORT SYSTEMS [PEM with certificate and key]."""
    import flask
    from sushy_tools.emulator import main as emulator
    from sushy_tools.emulator.resources.systems import fakedriver

    folder, port, systems = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    emulator.app.configure(
        extra_config={
            "SUSHY_EMULATOR_FAKE_DRIVER": True,
            "SUSHY_EMULATOR_AUTH_FILE": str(folder / "htpasswd"),
            "SUSHY_EMULATOR_STATE_DIR": str(folder),
            "SUSHY_EMULATOR_FAKE_SYSTEMS": [
                {"uuid": uuid, "name": name, "power_state": "Off", "external_notifier": False, "nics": []}
                for uuid, name in ((UUID, "n2"), (OTHER, "n3"))[:systems]
            ],
        }
    )
    fakedriver.random.randint = lambda low, _: low

    def contrary() -> tuple[dict[str, object], int] | None:
        if flask.request.method == "POST" and (folder / "contrary").exists():
            state = emulator.app.systems.get_power_state(UUID)
            if flask.request.json.get("ResetType", "").endswith(state):
                return {"error": {"message": f"the system is {state} already"}}, http.client.CONFLICT
        return None

    emulator.app.before_request(contrary)
    context = None
    if len(sys.argv) > 4:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[4])
    emulator.app.run(host="127.0.0.1", port=port, ssl_context=context)


if __name__ == "__main__":
    main()
