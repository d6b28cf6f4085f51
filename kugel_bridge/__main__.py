"""`python -m kugel_bridge` and the command `kugel-bridge`."""

from __future__ import annotations

import sys

from kugel_bridge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
