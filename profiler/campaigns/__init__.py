"""Measuring on behalf of a user: campaigns into a store, and reports of adapter overhead, parts and operators."""
