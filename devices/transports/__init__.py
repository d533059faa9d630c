"""Connections to devices other than this machine."""
