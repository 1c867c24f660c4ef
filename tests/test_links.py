"""Every link of a document leads somewhere in the repository, and every picture is shown."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PICTURES = sorted((ROOT / "docs" / "images").iterdir())


@cache
def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(document: Path) -> list[str]:
    """What a document links to beside itself, without addresses of the web."""
    return re.findall(r"\]\((?![a-z]+:)([^)\s]+)", prose(document))


@cache
def anchors(document: Path) -> set[str]:
    """The ends of addresses that GitHub makes of headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.*?) *$", prose(document), flags=re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


def leads_nowhere(document: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    return not target.exists() or (anchor != "" and anchor not in anchors(target))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert [link for link in links(document) if leads_nowhere(document, link)] == []


def test_a_link_to_nothing_would_be_seen() -> None:
    readme = ROOT / "README.md"
    assert leads_nowhere(readme, "docs/nothing.md")
    assert leads_nowhere(readme, "docs/architecture.md#nothing")
    assert not leads_nowhere(readme, "docs/architecture.md#one-training-iteration")
    assert "CONTRIBUTING.md" in links(readme)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_pictures_are_shown(picture: Path) -> None:
    shown = (document.parent / link for document in DOCUMENTS for link in links(document))
    assert picture in {path.resolve() for path in shown}
