"""The software bill of materials of a wheel names what is in it and what it needs, each time the same."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("cyclonedx") is None, reason="cyclonedx is no part of an older release's environment"
)

METADATA = """\
Metadata-Version: 2.4
Name: a-package
Version: 1.2.3
Summary: Something.
License-Expression: Apache-2.0
Requires-Dist: requests>=2.32
Requires-Dist: emulator==1.2.3; extra == "emulator"
"""
AT = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    wheel, sdist = tmp_path / "a_package-1.2.3-py3-none-any.whl", tmp_path / "a_package-1.2.3.tar.gz"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("a_package-1.2.3.dist-info/METADATA", METADATA)
        archive.writestr(
            "a_package/chart/PROVENANCE.md", "uPlot 1.6.32, https://example.org/u, MIT license\n"
        )
        archive.writestr("a_package/chart/chart.js", "draw()")
    sdist.write_bytes(b"source")
    return wheel, sdist


def test_it_names_the_package_what_it_contains_and_what_it_needs(files: tuple[Path, Path]) -> None:
    from dev.release.sbom import bill  # here: an older release's environment has no cyclonedx

    wheel, sdist = files
    found: dict[str, Any] = json.loads(bill(wheel, sdist, at=AT))
    package = found["metadata"]["component"]
    assert (package["purl"], package["licenses"]) == (
        "pkg:pypi/a-package@1.2.3",
        [{"expression": "Apache-2.0"}],
    )
    sums = {each["url"]: each["hashes"][0]["content"] for each in package["externalReferences"]}
    assert sums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, sdist)}
    parts = {each["name"]: each for each in found["components"]}
    assert {name: each["scope"] for name, each in parts.items()} == {
        "uPlot": "required",
        "requests": "required",
        "emulator": "optional",
    }
    assert parts["uPlot"]["version"] == "1.6.32"
    assert parts["uPlot"]["components"][0]["hashes"][0]["content"] == hashlib.sha256(b"draw()").hexdigest()
    assert "version" not in parts["requests"]
    needs = {each["ref"]: each.get("dependsOn") for each in found["dependencies"]}
    assert needs[package["bom-ref"]] == sorted(each["bom-ref"] for each in parts.values())


def test_the_same_files_give_the_same_bytes_and_others_another_number(files: tuple[Path, Path]) -> None:
    from dev.release.sbom import bill  # as above

    wheel, sdist = files
    first = bill(wheel, sdist, at=AT)
    assert bill(wheel, sdist, at=AT) == first
    sdist.write_bytes(b"another source")
    assert json.loads(bill(wheel, sdist, at=AT))["serialNumber"] != json.loads(first)["serialNumber"]
