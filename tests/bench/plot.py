"""Draws bars with whiskers as an SVG, with nothing but text: the median of some values, and the least and the most of them."""

import statistics
from xml.sax.saxutils import escape

LABEL, BAR, VALUE = 110, 520, 130
ROW, GAP, TITLE, TOP = 20, 18, 22, 56
OURS, THEIRS, WHISKER = "#2f6fb0", "#b0b6bd", "#404448"


def plot(title, heading, panels):
    """An SVG of `panels`, each (name, [(row, values)]): a scale of its own for each, from zero. The first row is ours."""
    width = LABEL + BAR + VALUE
    height = TOP + sum(TITLE + ROW * len(rows) + GAP for _, rows in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        text(10, 22, title, size=14),
        text(10, 40, heading, fill="#606468"),
    ]
    top = TOP
    for name, rows in panels:
        parts.append(text(10, top + 14, name, weight="bold"))
        top += TITLE
        most = max((max(values) for _, values in rows if values), default=0) or 1
        for index, (row, values) in enumerate(rows):
            parts += bar(top, row, values, BAR / most, OURS if index == 0 else THEIRS)
            top += ROW
        top += GAP
    return "\n".join([*parts, "</svg>", ""])


def bar(top, row, values, scale, colour):
    """One row."""
    yield text(LABEL - 6, top + 14, row, anchor="end")
    if not values:
        yield text(LABEL + 4, top + 14, "no figure", fill="#a03030")
        return
    middle = statistics.median(values)
    least, most = LABEL + min(values) * scale, LABEL + max(values) * scale
    yield f'<rect x="{LABEL}" y="{top + 3}" width="{middle * scale:.1f}" height="{ROW - 6}" fill="{colour}"/>'
    yield f'<path d="M{least:.1f} {top + ROW / 2}H{most:.1f}M{least:.1f} {top + 6}v8M{most:.1f} {top + 6}v8" stroke="{WHISKER}"/>'
    yield text(most + 6, top + 14, f"{middle:.3g}")


def text(left, top, words, size=12, fill="#202428", anchor="start", weight="normal"):
    """Some words."""
    style = f'font-size="{size}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{left:.1f}" y="{top:.1f}" {style}>{escape(words)}</text>'
