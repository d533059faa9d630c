"""Searching on behalf of a user: training, selection under a budget, verification, exports, and all of it in a row."""
