"""Parameters from and for other systems, one module each: `litert`, `onnx`, `torch`.

Nothing is imported here: each module is imported by name, and needs its own package.
"""
