"""Workloads: model shapes, configurations, the spaces they are drawn from, and PEFT folders."""
