"""Draws bars and matrices as images of a few kilobytes, in milliseconds and without matplotlib.

Pillow comes with TensorBoard. A picture is about as wide as TensorBoard's cards, which scale it without smoothing, so
that letters stay sharp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Image = npt.NDArray[np.uint8]
"""(H, W, 3)."""
FONT, SMALL, ROW, PAD = 15, 13, 24, 10
WIDTH = 400
INK, FAINT, BLUE, RED, GREY = (32, 33, 36), (218, 220, 224), (66, 133, 196), (214, 96, 77), (95, 99, 104)
LONGEST_NAME = 16
MOST_WRITTEN = 12
"""Rows of a matrix up to which each cell shows its value."""


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart. `half_width` is that of its interval; `mark` is a second value, drawn as a tick."""

    name: str
    value: float
    text: str
    half_width: float | None = None
    mark: float | None = None


def bars(rows: Sequence[Bar], *, title: str, legend: str = "") -> Image:
    """Horizontal bars from 0, blue to the right and red to the left, with interval or mark and the value as text."""
    canvas, draw = _canvas(WIDTH, 2 * PAD + ROW * (len(rows) + 1 + bool(legend)))
    names = [_cut(row.name) for row in rows]
    left = PAD + max([_width(draw, name) for name in names], default=0) + PAD
    right = WIDTH - 3 * PAD - max([_width(draw, row.text) for row in rows], default=0)
    ends = [0.0, *(v for row in rows for v in (row.value, *_reach(row)))]
    low, high = min(ends), max(ends)
    scale = (right - left) / ((high - low) or 1.0)

    def x(value: float) -> float:
        return left + (value - low) * scale

    draw.text((PAD, PAD), title, fill=INK, font=_font())
    top = PAD + ROW
    draw.line([(x(0), top), (x(0), top + ROW * len(rows))], fill=GREY, width=2)
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        middle = top + ROW * number + ROW // 2
        draw.text((PAD, middle), name, fill=INK, font=_font(), anchor="lm")
        box = (min(x(0), x(row.value)), middle - 7, max(x(0), x(row.value)), middle + 7)
        draw.rectangle(box, fill=BLUE if row.value >= 0 else RED)
        if row.half_width is not None:
            one, other = x(row.value - row.half_width), x(row.value + row.half_width)
            draw.line([(one, middle), (other, middle)], fill=INK, width=2)
            for end in (one, other):
                draw.line([(end, middle - 4), (end, middle + 4)], fill=INK, width=2)
        if row.mark is not None:
            draw.line([(x(row.mark), middle - 9), (x(row.mark), middle + 9)], fill=INK, width=3)
        draw.text((WIDTH - PAD, middle), row.text, fill=INK, font=_font(), anchor="rm")
    if legend:
        draw.text((PAD, top + ROW * len(rows) + 4), legend, fill=GREY, font=_font(SMALL))
    return np.asarray(canvas)


def matrix(names: Sequence[str], values_KK: npt.NDArray[Any], *, title: str, legend: str = "") -> Image:
    """Cells from red (-1) over white (0) to blue (1); a cell without a value (NaN) is grey."""
    size = len(names)
    cell = max(14, min(48, (WIDTH - 120) // max(1, size)))
    font = _font(max(11, min(FONT, cell - 3)))
    cut = [_cut(name) for name in names]
    _, ruler = _canvas(1, 1)
    label = int(max([ruler.textlength(name, font=font) for name in cut], default=0)) + PAD
    top = PAD + ROW + label
    width = max(WIDTH, PAD + label + cell * size + PAD)
    canvas, draw = _canvas(width, top + cell * size + PAD + (ROW if legend else 0))
    draw.text((PAD, PAD), title, fill=INK, font=_font())
    for row, name in enumerate(cut):
        draw.text((PAD + label - 8, top + cell * row + cell // 2), name, fill=INK, font=font, anchor="rm")
        _upright(canvas, name, font, x=PAD + label + cell * row, bottom=top - 6, cell=cell)
        for column in range(size):
            value = float(values_KK[row, column])
            corner = (PAD + label + cell * column, top + cell * row)
            box = (corner[0] + 1, corner[1] + 1, corner[0] + cell - 1, corner[1] + cell - 1)
            draw.rectangle(box, fill=_colour(value))
            if size <= MOST_WRITTEN and not np.isnan(value):
                middle = (corner[0] + cell // 2, corner[1] + cell // 2)
                ink = (255, 255, 255) if abs(value) > 0.6 else INK
                written = f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.1f}"
                draw.text(middle, written, fill=ink, font=_font(min(FONT, cell // 3 + 3)), anchor="mm")
    if legend:
        draw.text((PAD, top + cell * size + PAD // 2), legend, fill=GREY, font=_font(SMALL))
    return np.asarray(canvas)


def _canvas(width: int, height: int) -> tuple[Any, ImageDraw]:
    from PIL import Image as Images
    from PIL import ImageDraw

    canvas = Images.new("RGB", (width, height), (255, 255, 255))
    return canvas, ImageDraw.Draw(canvas)


def _font(size: int = FONT) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _width(draw: ImageDraw, text: str) -> int:
    return int(draw.textlength(text, font=_font()))


def _cut(name: str) -> str:
    """The text, without its middle if it is long, because names often begin with the same letters."""
    half = LONGEST_NAME // 2 - 1
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}...{name[-half:]}"


def _reach(row: Bar) -> list[float]:
    ends = [] if row.half_width is None else [row.value - row.half_width, row.value + row.half_width]
    return ends + ([] if row.mark is None else [row.mark])


def _upright(canvas: Any, text: str, font: Any, *, x: int, bottom: int, cell: int) -> None:
    """Write a text from bottom to top, in the middle of a column of width `cell`."""
    from PIL import Image as Images
    from PIL import ImageDraw

    length = int(font.getlength(text)) + 2
    strip = Images.new("RGB", (length, cell), (255, 255, 255))
    ImageDraw.Draw(strip).text((0, cell // 2), text, fill=INK, font=font, anchor="lm")
    canvas.paste(strip.rotate(90, expand=True), (x, bottom - length))


def _colour(value: float) -> tuple[int, int, int]:
    if np.isnan(value):
        return FAINT
    end = np.array(BLUE if value >= 0 else RED)
    share = min(1.0, abs(value))
    red, green, blue = (255 + (end - 255) * share).astype(int).tolist()
    return red, green, blue
