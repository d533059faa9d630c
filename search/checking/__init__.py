"""Checks of an adapter in a runtime: is it applied, on every site and at the right scale?"""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names
from adaptare.search.checking.finding import Finding, SiteFinding
from adaptare.search.checking.runtimes import AdapterRuntime, LoadedFiles, adapter_runtime

if TYPE_CHECKING:
    from adaptare.search.checking.hypotheses import finding_by_rule
    from adaptare.search.checking.logits import finding_of_logits

__all__ = ["AdapterRuntime", "Finding", "LoadedFiles", "SiteFinding", "adapter_runtime", "finding_by_rule"]
__all__ += ["finding_of_logits"]

__getattr__ = lazy_names(__name__)
