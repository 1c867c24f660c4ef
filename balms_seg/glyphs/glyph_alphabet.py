"""Which characters become classes of the glyph data set."""

from __future__ import annotations

import unicodedata

# Told apart at 25 px and under small rotations; O, I and lower-case copies of capitals are not.
PREFERRED = "ABCDEFGHJKLMNPQRSTUVWXYZ2347aegk&?@#%$€Ω"

# Look-alikes. The first of a pair is frequent and the second rare, so that confusing the two is
# what a long tail provokes. Glyphs that only their size tells apart, as C and c, are left out.
SIMILAR_PAIRS = (
    *("OQ", "CG", "EF", "RP", "B8", "S5", "Z2", "UJ", "VY", "MN", "XK", "TŦ", "HĦ", "AÅ", "LŁ"),
    *("DÐ", "hn", "gq", "ad", "b6", "ft", "ij", "mw", "€£", "ΩΘ", "ΨΦ", "$§", "!?", "ЖЭ"),
)

_BLOCKS_LEFT_OUT = (
    *("BRAILLE", "BOX", "COMBINING", "TETRAGRAM", "HEXAGRAM", "DOMINO", "VARIATION", "MODIFIER"),
    *("SUPERSCRIPT", "SUBSCRIPT", "OGHAM", "FULLWIDTH", "HALFWIDTH"),
)


def is_candidate(character: str) -> bool:
    """Whether a character is a visible letter, number, symbol or punctuation mark with a name."""
    name = unicodedata.name(character, "")
    category = unicodedata.category(character)
    return (
        bool(name)
        and category[0] in "LNSP"
        and category not in ("Lm", "Sk")
        and not (name.startswith(_BLOCKS_LEFT_OUT))
    )
