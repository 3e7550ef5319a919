"""Changing modules when they are imported, and not before: a process that never imports
`sqlite3` does not do so because of the probe."""

from __future__ import annotations

import sys

__all__ = ["imitate", "instead_of", "when_imported"]


def when_imported(name: str, change) -> None:
    """Call `change(module)` right after the module was executed; now, if it was already."""
    if name in sys.modules:
        change(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, change))


def imitate(ours, plain) -> None:
    """What `functools.wraps` does, for which `functools` would have to be loaded."""
    for name in ("__doc__", "__module__", "__name__", "__qualname__", "__text_signature__"):
        try:
            setattr(ours, name, getattr(plain, name))
        except (AttributeError, TypeError):
            pass
    ours.__wrapped__ = plain


def instead_of(plain, ours, module: str):
    """`ours` as what can replace the built-in function `plain` in `module`: unlike a function it
    is no method of a class that has it as an attribute (`pathlib` of Python 3.9 has such), and it
    is pickled by its name."""
    name = plain.__name__
    kind = type("builtin", (), {"__call__": staticmethod(ours), "__reduce__": lambda self: name})
    made = kind()
    imitate(made, plain)
    made.__module__ = module
    return made


class _Finder:
    """Finds one module, once, the way the others do."""

    def __init__(self, name: str, change) -> None:
        self.name = name
        self.change = change

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                self._follow(spec.loader)
                return spec
        return None

    def _follow(self, loader) -> None:
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module) -> None:
            execute(module)
            try:
                self.change(module)
            except Exception:
                pass

        try:
            loader.exec_module = exec_module
        except AttributeError:  # a loader that is a class of built-in modules
            pass
