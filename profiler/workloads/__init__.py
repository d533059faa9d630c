"""Workloads: model shapes, configurations, the spaces that they are drawn from, and PEFT folders."""
