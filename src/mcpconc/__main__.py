"""``python -m mcpconc``"""

from __future__ import annotations

import sys

from mcpconc.cli import main

if __name__ == "__main__":
    sys.exit(main())
