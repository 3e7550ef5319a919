"""One server: ``python -m mcpconc.reference --root ROOT [--instance NAME] [--busy SECONDS]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

from mcpconc.reference.server import serve
from mcpconc.reference.store import Store


def main() -> None:
    parser = argparse.ArgumentParser("python -m mcpconc.reference")
    parser.add_argument("--root", type=Path, required=True, help="where the state is")
    parser.add_argument("--instance", default="", help="whose server this is")
    parser.add_argument(
        "--busy", type=float, default=3.0, help="seconds to wait for another one's lock"
    )
    given = parser.parse_args()
    anyio.run(serve, Store(given.root, given.instance, given.busy))


if __name__ == "__main__":
    main()
