"""What an image is made of, for people (packages.txt) and scanners (SPDX 2.3): the same bytes for the same image."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from drivers.image.tools import EPOCH_S

SPDX = "SPDX-2.3"
_NOT_ID = re.compile(r"[^A-Za-z0-9.-]")


class Package(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One package of an image. ``origin``: deb, pypi, or moxie; ``architecture``: Debian's word, "" for the others."""

    origin: str
    name: str
    version: str
    architecture: str = ""
    source: str = ""

    @property
    def url(self) -> str:
        """Its package URL. Source: the purl specification, types deb and pypi."""
        version = re.sub(r"[^A-Za-z0-9._~-]", lambda found: f"%{ord(found[0]):02X}", self.version)
        if self.origin == "deb":
            return f"pkg:deb/debian/{self.name.replace('+', '%2B')}@{version}?arch={self.architecture}&distro=bookworm"
        kind = "pypi" if self.origin == "pypi" else "generic"
        return f"pkg:{kind}/{self.name.lower().replace('_', '-')}@{version}"


def debian_packages(status: str) -> tuple[Package, ...]:
    """The installed packages of a dpkg status file, sorted."""
    found = []
    for paragraph in re.split(r"\n\n+", status.strip()):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            found.append(_debian(fields))
    return tuple(sorted(found))


def control_package(control: str) -> Package:
    """The package that a control paragraph describes, as ``dpkg-deb -f`` prints it."""
    return _debian(dict(re.findall(r"^([A-Za-z-]+): (.*)$", control, re.MULTILINE)))


def packages_text(packages: Iterable[Package]) -> str:
    """One line a package: origin, name, version."""
    return "".join(f"{one.origin} {one.name} {one.version}\n" for one in sorted(packages))


def sbom(name: str, version: str, packages: Sequence[Package]) -> bytes:
    """An SPDX 2.3 document in JSON about an image called ``name``.

    Source: https://spdx.github.io/spdx-spec/v2.3/. Creation time and namespace follow from the content, so that the
    same image has the same document.
    """
    ordered = sorted(packages)
    digest = hashlib.sha256("\0".join([name, version, *(one.url for one in ordered)]).encode()).hexdigest()
    document = {
        "spdxVersion": SPDX,
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-{version}",
        "documentNamespace": f"https://spdx.org/spdxdocs/{_NOT_ID.sub('-', name)}-{digest[:32]}",
        "creationInfo": {
            "created": datetime.fromtimestamp(EPOCH_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: rack-image-build"],
        },
        "packages": [_image(name, version), *(_described(one) for one in ordered)],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image"),
            *(_relation("SPDXRef-Image", "CONTAINS", _reference(one)) for one in ordered),
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def installed(root: Path) -> tuple[Package, ...]:
    """The Debian packages of an unpacked root."""
    return debian_packages((root / "var/lib/dpkg/status").read_text(encoding="utf-8"))


def _debian(fields: dict[str, str]) -> Package:
    return Package(
        origin="deb",
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields.get("Architecture", ""),
        source=fields.get("Source", fields["Package"]).partition(" ")[0],
    )


def _reference(one: Package) -> str:
    return "SPDXRef-" + _NOT_ID.sub("-", f"{one.origin}-{one.name}-{one.architecture or 'any'}")


def _described(one: Package) -> dict[str, object]:
    described: dict[str, object] = {
        "name": one.name,
        "SPDXID": _reference(one),
        "versionInfo": one.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "supplier": "Organization: Debian" if one.origin == "deb" else "NOASSERTION",
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": one.url}
        ],
    }
    if one.source and one.source != one.name:
        described["sourceInfo"] = f"built from the source package {one.source}"
    return described


def _image(name: str, version: str) -> dict[str, object]:
    return {
        "name": name,
        "SPDXID": "SPDXRef-Image",
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "OPERATING-SYSTEM",
    }


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
