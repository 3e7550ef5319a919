"""The owner's four documents, made from a summary and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mcpconc.errors import UsageError
from mcpconc.report.document import Json
from mcpconc.report.markdown.common import Pictures
from mcpconc.report.markdown.deployment import deployment_report
from mcpconc.report.markdown.performance import performance_report
from mcpconc.report.markdown.plots import draw
from mcpconc.report.markdown.release import release_report
from mcpconc.report.markdown.stress import stress_report

__all__ = ["DOCUMENTS", "write"]

DOCUMENTS: Mapping[str, Callable[[Json, Pictures | None], str]] = {
    "MULTI_AGENT_STRESS_TEST_REPORT.md": stress_report,
    "PERFORMANCE_OPTIMIZATION_REPORT.md": performance_report,
    "PRODUCTION_DEPLOYMENT_VALIDATION.md": deployment_report,
    "RELEASE_PERFORMANCE_VALIDATION.md": release_report,
}


def write(document: Json, directory: Path, plots: bool = True) -> list[Path]:
    """Write the documents into a directory, which is made, and the plots that they show, unless
    there are to be none. Returns what was written.

    :raises UsageError: if it cannot be written there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        pictures = draw(document, directory) if plots else Pictures()
        written = [directory / name for name in sorted(pictures.files.values())]
        for name, report in DOCUMENTS.items():
            (directory / name).write_text(report(document, pictures), encoding="utf-8")
            written.append(directory / name)
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror or error}") from error
    return written
