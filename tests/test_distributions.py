"""What ships: four distributions of one version, each with its licence and with all that it imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tools.version import versions

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "server": "tilestream",
    "client/python": "tilestream_client",
    "street": "tilestream_street",
    "training": "tilestream_training",
}
BY_CHANCE = {"server": {"tqdm", "triton"}, "training": {"openvino"}}  # imported only where they are installed
BROUGHT = {"training": "server"}  # whose requirements come along

folders = pytest.mark.parametrize("folder", PACKAGES)


def project(folder: str) -> dict:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(folder: str) -> set[str]:
    facts = project(folder)
    lines = [
        *facts["dependencies"],
        *(line for extra in facts.get("optional-dependencies", {}).values() for line in extra),
    ]
    own = {normal(re.match(r"[\w.-]+", line)[0]) for line in lines}
    return own | requirements(BROUGHT[folder]) if folder in BROUGHT else own


def imported(folder: str) -> set[str]:
    """The top-level names that a distribution's modules import, wherever in them."""
    names = set()
    for path in (ROOT / folder / PACKAGES[folder]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - {PACKAGES[folder]} - set(sys.stdlib_module_names)


def test_there_is_one_version():
    found = versions()
    assert all(found.values()), found
    assert len(set().union(*found.values())) == 1, found


@folders
def test_a_distribution_has_readme_and_licence_of_its_own(folder):
    facts = project(folder)
    assert (ROOT / folder / facts["readme"]).is_file() and facts["license-files"] == ["LICENSE"]
    assert (ROOT / folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (ROOT / folder / PACKAGES[folder] / "py.typed").is_file()


@folders
def test_a_distribution_requires_what_it_imports(folder):
    owners = packages_distributions()
    allowed = requirements(folder) | BY_CHANCE.get(folder, set())
    for name in imported(folder):
        assert {normal(owner) for owner in owners.get(name, [name])} & allowed, name


def test_none_imports_what_is_above_it():
    siblings = set(PACKAGES.values())
    assert not imported("server") & siblings and not imported("client/python") & siblings
    assert not imported("street") & siblings
    assert imported("training") & siblings == {"tilestream", "tilestream_street"}
    for folder in ("client/python", "street"):
        assert not requirements(folder) & {"torch", "tilestream"}
    assert not imported("server") & {"matplotlib"}
