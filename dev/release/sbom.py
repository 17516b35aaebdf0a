"""Writes a software bill of materials for each wheel of a directory, as CycloneDX 1.6 in JSON.

It names the package with the checksums of its wheel and its sdist, what the wheel contains of others, and
what installing it needs, as ranges: which versions are taken is decided where it is installed. The same
files and the same SOURCE_DATE_EPOCH give the same bytes.

Source: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_string
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# The first line of the file that stands next to what was taken over from others.
_PROVENANCE = re.compile(r"(?P<name>\S+) (?P<version>\S+), (?P<url>https://\S+), (?P<license>\S+) license")


def bill(wheel: Path, sdist: Path, *, at: datetime) -> str:
    """Return the bill of materials of a wheel.

    :param sdist: the source distribution of the same release.
    :param at: the time to state in it.
    """
    with ZipFile(wheel) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    (metadata,) = [
        message_from_string(text.decode())
        for name, text in texts.items()
        if name.endswith(".dist-info/METADATA")
    ]
    package = _package(metadata, wheel, sdist)
    vendored = [*_vendored(texts)]
    needed = [*_needed(metadata)]
    found = Bom(
        # Of the same files, the same number.
        serial_number=uuid.uuid5(
            uuid.NAMESPACE_URL, _sha256(wheel.read_bytes()) + _sha256(sdist.read_bytes())
        ),
        metadata=BomMetaData(component=package, timestamp=at),
        components=[*vendored, *needed],
    )
    found.register_dependency(package, [*vendored, *needed])
    return JsonV1Dot6(found).output_as_string(indent=1) + "\n"


def _package(metadata: Message, wheel: Path, sdist: Path) -> Component:
    name, version = metadata["Name"], metadata["Version"]
    purl = PackageURL("pypi", None, canonicalize_name(name), version)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        description=metadata["Summary"],
        licenses=[LicenseExpression(metadata["License-Expression"])],
        purl=purl,
        bom_ref=str(purl),
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(file.name),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=_sha256(file.read_bytes()))],
            )
            for file in (wheel, sdist)
        ],
    )


def _vendored(texts: dict[str, bytes]) -> Iterator[Component]:
    for name, text in texts.items():
        folder, _, file = name.rpartition("/")
        if file != "PROVENANCE.md":
            continue
        found = _PROVENANCE.match(text.decode())
        if not found:
            raise ValueError(f"{name} does not begin with '<name> <version>, <address>, <license> license'")
        purl = PackageURL("npm", None, found["name"].lower(), found["version"])
        yield Component(
            type=ComponentType.LIBRARY,
            name=found["name"],
            version=found["version"],
            scope=ComponentScope.REQUIRED,
            licenses=[LicenseExpression(found["license"])],
            purl=purl,
            bom_ref=str(purl),
            external_references=[
                ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(found["url"])),
            ],
            components=[
                Component(
                    type=ComponentType.FILE,
                    name=other,
                    bom_ref=other,
                    hashes=[HashType(alg=HashAlgorithm.SHA_256, content=_sha256(content))],
                )
                for other, content in texts.items()
                if other.startswith(f"{folder}/") and other != name
            ],
        )


def _needed(metadata: Message) -> Iterator[Component]:
    for text in metadata.get_all("Requires-Dist", []):
        wanted = Requirement(text)
        purl = PackageURL("pypi", None, canonicalize_name(wanted.name))
        yield Component(
            type=ComponentType.LIBRARY,
            name=wanted.name,
            scope=ComponentScope.OPTIONAL if wanted.marker else ComponentScope.REQUIRED,
            purl=purl,
            bom_ref=str(purl),
            properties=[Property(name="python:requires-dist", value=str(wanted))],
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(dist: Path, output: Path) -> None:
    """Write one file for each wheel."""
    at = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    output.mkdir(parents=True, exist_ok=True)
    for wheel in sorted(dist.glob("*.whl")):
        release = "-".join(wheel.name.split("-")[:2])
        path = output / f"{release}.cdx.json"
        path.write_text(bill(wheel, dist / f"{release}.tar.gz", at=at))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
