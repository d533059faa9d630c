"""The worker process of a device: Python 3.9 or newer, the standard library, numpy, and the runtime itself.

`python -m adaptare.devices.agent MODULE:RUNTIME` starts it where adaptare is installed; otherwise, `write_agent` of
`adaptare.devices` packs this folder into a single file for Python.
"""
