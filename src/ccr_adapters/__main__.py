"""`python -m ccr_adapters` is the command `ccr-adapters`."""

from __future__ import annotations

from ccr_adapters.cli.main import main

if __name__ == "__main__":
    main()
