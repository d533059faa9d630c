"""Exports of a configuration: PEFT folders, merged checkpoints and ONNX files."""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names
from adaptare.search.export.folder import check_replaceable
from adaptare.search.export.kinds import ExportOptions, export_kind

if TYPE_CHECKING:
    from adaptare.search.export.peft_import import check_plain, import_peft

__all__ = ["ExportOptions", "check_plain", "check_replaceable", "export_kind", "import_peft"]

__getattr__ = lazy_names(__name__)
