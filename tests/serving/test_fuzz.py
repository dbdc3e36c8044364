"""The server against its own description: schemathesis makes requests of every route, good and bad, from the OpenAPI page."""

from __future__ import annotations

import subprocess
import sys


def test_no_request_that_the_description_allows_breaks_the_server(serve, tmp_path):
    with serve("t.index", characters=200) as client:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{client.port}/openapi.json"]
        # a picture that random bytes make, or a language that random letters name, does not exist: refusing it is right
        checks = ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
        found = subprocess.run(
            [*command, *checks, "--max-examples", "6", "--seed", "7", "--phases", "coverage,fuzzing", "--no-color"],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
        )
        assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
        assert client.text(["a red star"], "en").status == 200
