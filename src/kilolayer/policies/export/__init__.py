"""Export: a policy as a file that runs without the library."""

from kilolayer.policies.export import formats  # noqa: F401  (registers the formats)
from kilolayer.policies.export.exporter import (
    Exportable,
    Exporter,
    Written,
    exporter_names,
    exporter_of,
    register_exporter,
)
from kilolayer.policies.export.onnx_graph import onnx_rule
from kilolayer.policies.export.write import Exported, acting, export_policy, largest_difference, write_table

__all__ = [
    "Exportable",
    "Exported",
    "Exporter",
    "Written",
    "acting",
    "export_policy",
    "exporter_names",
    "exporter_of",
    "largest_difference",
    "onnx_rule",
    "register_exporter",
    "write_table",
]
