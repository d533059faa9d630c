"""Contract suites: classes of pytest tests to run on a device, regressor, algorithm or space from another package.

A suite is subclassed under a name that pytest collects, and the fixtures that its docstring names are defined, as
`docs/extending.md` shows. Needs the extra `testing`.
"""

import contextlib
from typing import TYPE_CHECKING

from adaptare.core.lazy_names import later_names, lazy_names

if TYPE_CHECKING:
    from adaptare.testing.algorithm import AlgorithmSuite
    from adaptare.testing.device import FEEDS, DevicePrograms, DeviceSuite
    from adaptare.testing.objective import ObjectiveSuite
    from adaptare.testing.onnx_files import onnx_programs
    from adaptare.testing.program_builder import ProgramBuilderSuite
    from adaptare.testing.regressor import RegressorSuite
    from adaptare.testing.runtime import RuntimeProgram, RuntimeSuite
    from adaptare.testing.space import SpaceSuite

__all__ = [
    "FEEDS",
    "AlgorithmSuite",
    "DevicePrograms",
    "DeviceSuite",
    "ObjectiveSuite",
    "ProgramBuilderSuite",
    "RegressorSuite",
    "RuntimeProgram",
    "RuntimeSuite",
    "SpaceSuite",
    "onnx_programs",
]


__getattr__ = lazy_names(__name__)

with contextlib.suppress(ModuleNotFoundError):  # a suite says so when it is used
    import pytest

    # Failed assertions then show their values, as those of the user's own files do.
    pytest.register_assert_rewrite(*set(later_names(__name__).values()))
