"""Sends requests that the API document allows to a running gateway, and compares the responses with the document."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from servers import RedisServer, running_gateway

KEY = "a-key-of-all-roles"
# The time limit of the whole test; generating requests takes most of it.
MAX_SECS = 120
EXAMPLES = 8
# Streams stay open as long as their job exists. Other tests cover them.
STREAMS = "/(stream|events)$"
CONFIG = Path(__file__).with_name("schemathesis.toml")


def test_schemathesis_finds_no_issues(tmp_path: Path) -> None:
    settings = tmp_path / "gateway.toml"
    sha256 = hashlib.sha256(KEY.encode()).hexdigest()
    settings.write_text(
        f'[[auth.keys]]\nname = "all"\nsha256 = "{sha256}"\nroles = ["client", "worker", "admin"]\n'
    )
    with (
        RedisServer.start() as server,
        running_gateway(
            server.gateway_url,
            tmp_path / "gateway.log",
            "--config",
            str(settings),
            I2M__AUTH__MODE="keys",
            I2M__RATE_LIMIT__ENABLED="false",
            # The test sends more invalid keys than the default limit allows.
            I2M__RATE_LIMIT__FAILED_KEYS_LIMIT="1000000",
        ) as base_url,
    ):
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
        options = [
            f"{base_url}/openapi.json",
            f"--header=Authorization: Bearer {KEY}",
            f"--exclude-path-regex={STREAMS}",
            f"--max-examples={EXAMPLES}",
            "--seed=1",
            "--workers=1",
            "--request-timeout=10",
            "--no-color",
            # Warnings are about, for example, requests for jobs that do not exist.
            "--warnings=off",
        ]
        hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(CONFIG.parent)}
        completed = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env={**os.environ, **hooks},
            timeout=MAX_SECS,
            capture_output=True,
            text=True,
            check=False,
        )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "No issues found" in completed.stdout, completed.stdout
