"""The report as one HTML page with everything inside."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STYLE = """
:root { color-scheme: light dark; background: light-dark(#fff, #16181b); color: light-dark(#30343b, #d8dbe0); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.lead { color: light-dark(#666, #a0a5ad); margin-top: .2rem; }
img { max-width: 100%; background: #fff; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .15rem .9rem .15rem 0; text-align: left; }
td.number { font-variant-numeric: tabular-nums; text-align: right; }
details { margin-top: 1rem; }
pre { font-size: .8rem; overflow-x: auto; background: light-dark(#f5f5f5, #24272c); padding: .8rem; }
"""


def picture(path: Path, description: str) -> str:
    """Return an HTML image with the PNG file inside."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(description, quote=True)}">'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table. The first cell of a row is text, the others are numbers."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><td>{html.escape(row[0])}</td>"
        + "".join(f'<td class="number">{html.escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def section(title: str, *parts: str) -> str:
    """Return a section with a heading."""
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(parts)


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def folded(title: str, text: str) -> str:
    """Return preformatted text, folded until it is clicked."""
    return f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """Return the whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p>\n'
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def metric_rows(metrics: Mapping[str, Any], names: Sequence[str]) -> list[list[str]]:
    """Return a row for each metric: name, mean, standard error."""
    return [
        [name, f"{metrics[f'eval/{name}']:.3f}", f"± {metrics[f'eval/{name}_stderr']:.3f}"]
        for name in names
        if f"eval/{name}" in metrics
    ]
