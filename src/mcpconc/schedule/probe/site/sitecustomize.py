"""Loaded by every Python process that has this directory on its path: starts the probe where
it is asked for, then does what the next ``sitecustomize`` on the path says."""

import os
import sys

if "MCPCONC_PROBE" in os.environ:
    # Whatever goes wrong in the probe, the process that it was loaded into runs on.
    try:
        import mcpconc_probe

        mcpconc_probe.start(os.environ)
    except Exception:
        pass


def _chain() -> None:
    # The import system's own modules are there already; `importlib` would have to be loaded.
    import _frozen_importlib
    import _frozen_importlib_external

    here = os.path.dirname(os.path.abspath(__file__))
    rest = [path for path in sys.path if os.path.abspath(path) != here]
    spec = _frozen_importlib_external.PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        module = _frozen_importlib.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_chain()
