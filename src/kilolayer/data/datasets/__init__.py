"""Data sets: read from OGBench, Minari and files, and written for them."""

from kilolayer.data.datasets import minari, npz, ogbench  # noqa: F401  (each registers what it reads)
from kilolayer.data.datasets.dataset import Dataset
from kilolayer.data.datasets.sources import (
    DatasetFormat,
    DatasetSource,
    environment_of,
    read_dataset,
    register_dataset_format,
    register_dataset_source,
    unregister_dataset_format,
    unregister_dataset_source,
    write_dataset,
    written_formats,
)

__all__ = [
    "Dataset",
    "DatasetFormat",
    "DatasetSource",
    "environment_of",
    "read_dataset",
    "register_dataset_format",
    "register_dataset_source",
    "unregister_dataset_format",
    "unregister_dataset_source",
    "write_dataset",
    "written_formats",
]
