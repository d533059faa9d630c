"""Overhead of adapters on a device."""
