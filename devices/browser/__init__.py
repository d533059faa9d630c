"""Devices that are browsers: a page runs programs with ONNX Runtime Web, and a small server connects it with this host.

`PageServer` serves the page and relays requests to it; `BrowserTransport` is how other processes of this user reach it.
"""
