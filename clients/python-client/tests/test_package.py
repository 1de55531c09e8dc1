"""What the package promises of itself: types that are the API's, and old Pythons."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from conftest import Gateway
from image2model_client import models


def test_all_of_it_is_typed(package: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=package, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert (package / "src/image2model_client/py.typed").exists()


def test_it_is_written_in_python_3_9(package: Path) -> None:
    for path in (package / "src").rglob("*.py"):
        ast.parse(path.read_text(), path.name, feature_version=(3, 9))


def test_its_bodies_are_those_of_the_api(gateway: Gateway) -> None:
    schemas = gateway.send("GET", "/openapi.json")["components"]["schemas"]
    names = [name for name in vars(models) if name[0].isupper() and name in schemas]
    assert len(names) >= 8
    for name in names:
        fields = getattr(models, name).__annotations__
        inherited = {"filename"} if name == "NewFile" else set()
        assert set(fields) | inherited == set(schemas[name]["properties"]), name
