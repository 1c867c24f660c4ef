"""Percentages as every part of the page shows them."""

from __future__ import annotations


def rounded_percent(percent: float) -> float:
    """One digit behind the point; two below 1, where an AP of 0.04 would read as none.

    What the page's script shows is rounded here, so that nothing is rounded twice.
    """
    return round(percent, 1 if abs(percent) >= 1 else 2)


def percent_text(percent: float) -> str:
    """The same as text; page.js has its twin."""
    shown = rounded_percent(percent)
    return f"{shown:.1f}" if shown == 0 or abs(shown) >= 1 else f"{shown:.2f}"
