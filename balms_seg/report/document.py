"""The report's html document around its sections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from balms_seg.report import sections
from balms_seg.report.run_files import Run
from balms_seg.wording import counted

_TITLES = {
    "verdict": "verdict",
    "headline": "headline",
    "groups": "groups",
    "classes": "classes",
    "errors": "errors",
    "gallery": "pictures",
    "labels": "labels",
    "thresholds": "thresholds",
    "reliability": "scores",
    "curves": "curves",
    "rates": "rates",
    "provenance": "configuration",
}


def assemble(
    runs: Sequence[Run], parts: Sequence[str], data: Mapping[str, Any], script: str
) -> str:
    """The document, with style, data, the plotting library's script and the page's own.

    Args:
        runs: side by side.
        parts: html of the sections.
        data: what the page's script draws and lists.
        script: of the plotting library.
    """
    files = resources.files(__package__)
    style = (files / "page.css").read_text(encoding="utf-8")
    behaviour = (files / "page.js").read_text(encoding="utf-8")
    names = sections.escape(" · ".join(run.name for run in runs))
    dataset = sections.escape(runs[0].dataset)
    body = "\n".join(parts)
    links = "".join(
        f'<li><a href="#{name}">{title}</a></li>'
        for name, title in _TITLES.items()
        if f'<section id="{name}"' in body
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{names} on {dataset}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header><h1>{names}</h1><p class="soft">evaluated on {dataset}{_set_size(runs[0])}</p></header>
<nav aria-label="parts"><ul>{links}</ul></nav>
<main>
{body}
</main>
<script type="application/json" id="data">{_embed_json(data)}</script>
<script>{script}</script>
<script>{behaviour}</script>
</body>
</html>
"""


def _set_size(run: Run) -> str:
    """How much the data set has, as the run's own files tell it."""
    files = run.tasks[run.main_task]
    if files.matches is not None:
        images, objects = files.matches.num_images, len(files.matches.annotation_classes)
        return f": {counted(images, 'image')}, {counted(objects, 'object')}"
    if files.predictions is not None:
        return f": {counted(len(files.predictions.predictions.labels), 'image')}"
    return ""


def _embed_json(data: Mapping[str, Any]) -> str:
    """Json that cannot end the script element it stands in."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
