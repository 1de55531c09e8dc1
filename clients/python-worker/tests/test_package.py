"""The package is fully typed, runs on Python 3.9, and needs no dependency for HTTP."""

from __future__ import annotations

import ast
import subprocess
import sys

from conftest import PACKAGE

SOURCE = PACKAGE / "src" / "image2model_worker"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=PACKAGE, capture_output=True, text=True, check=False
    )


def test_the_package_is_fully_typed() -> None:
    checked = run("-m", "mypy")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert (SOURCE / "py.typed").exists()


def test_the_source_parses_as_python_3_9() -> None:
    for path in SOURCE.glob("*.py"):
        ast.parse(path.read_text(), path.name, feature_version=(3, 9))


def test_http_needs_only_the_standard_library() -> None:
    script = """
import sys
sys.path.insert(0, "src")
from image2model_worker import HttpReporter
HttpReporter("http://gateway", "key")
try:
    from image2model_worker import CeleryJob
except ImportError as error:
    print(error)
"""
    # -S excludes site-packages, and with it Celery; -I excludes PYTHONPATH.
    ran = run("-I", "-S", "-c", script)
    assert ran.stdout == "CeleryJob needs Celery: pip install 'image2model-worker[celery]'\n", ran
