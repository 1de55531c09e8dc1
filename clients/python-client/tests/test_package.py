"""The package is fully typed, runs on Python 3.9, and its types match the API document."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from conftest import Gateway
from image2model_client import models


def test_the_package_is_fully_typed(package: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=package, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert (package / "src/image2model_client/py.typed").exists()


def test_the_source_parses_as_python_3_9(package: Path) -> None:
    for path in (package / "src").rglob("*.py"):
        ast.parse(path.read_text(), path.name, feature_version=(3, 9))


def test_the_models_match_the_api_document(gateway: Gateway) -> None:
    schemas = gateway.send("GET", "/openapi.json")["components"]["schemas"]
    names = [name for name in vars(models) if name[0].isupper() and name in schemas]
    assert len(names) >= 8
    for name in names:
        fields = getattr(models, name).__annotations__
        inherited = {"filename"} if name == "NewFile" else set()
        assert set(fields) | inherited == set(schemas[name]["properties"]), name
