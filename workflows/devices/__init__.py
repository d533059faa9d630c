"""Reachable devices, and bundles of the agent in C."""
