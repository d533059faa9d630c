"""Experiment trackers that transformers' Trainer reports to: TensorBoard, MLflow, Weights & Biases and others."""

from collections.abc import Sequence

from transformers.integrations import integration_utils as known

from adaptare.core import InputError


def check_trackers(names: Sequence[str]) -> None:
    """Raises `InputError` unless transformers knows each name, and its package is installed."""
    for name in names:
        if name not in known.INTEGRATION_TO_CALLBACK:
            takes = ", ".join(sorted(known.INTEGRATION_TO_CALLBACK))
            raise InputError(f"transformers reports to none called {name!r}; it knows {takes}", parameter="report_to")
        if name not in known.get_available_reporting_integrations():
            raise InputError(f"the package of {name} is not installed; install it, and repeat", parameter="report_to")
