"""Formulas of the site as MathML, which browsers draw by themselves: a page needs nothing from the network."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert


def connect(app: Any) -> None:
    """Draw formulas by MathML in pages of HTML."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.config.html_math_renderer = "mathml"


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(f'<span class="math">{_mathml(node.astext(), "inline")}</span>')
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{_mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def _mathml(latex: str, display: str) -> str:
    """Return a formula with the thin spaces around a logarithm that the converter leaves out."""
    space = '<mspace width="0.17em"/>'
    return convert(latex, display=display).replace("<mi>log</mi>", f"{space}<mi>log</mi>{space}")
