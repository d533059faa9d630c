"""Workflows: training, selection under a budget, verification, exports, and a demonstration of all of them."""
