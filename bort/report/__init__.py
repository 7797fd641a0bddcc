"""Figures, tables and the one page that says what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bort.report.page import build_report

__all__ = ["build_report"]


def __getattr__(name: str) -> Any:
    if name == "build_report":
        from bort.report.page import build_report

        return build_report
    raise AttributeError(f"module 'bort.report' has no attribute '{name}'")
