"""Sphinx's part of the API reference: what `autodoc` shows of the package, and how.

The docstrings are NumPy's style; a name in single backticks is a link where it is public, and a
parameter otherwise.
"""
import sys

sys.modules["zeropoint._core"] = None  # type: ignore[assignment]
import inspect
from sphinx.util.docutils import SphinxDirective
import importlib

class Symbols(SphinxDirective):
    has_content = True
    required_arguments = 1

    def run(self):
        module = importlib.import_module(self.arguments[0])
        names = [line for line in self.content if line]
        lines = [f".. currentmodule:: {module.__name__}", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {n}" for n in names]+[""]
        for n in names:
            o = getattr(module, n)
            kind = "exception" if isinstance(o, type) and issubclass(o, BaseException) else "class" if isinstance(o,type) else "function" if callable(o) else "data"
            lines += [f".. auto{kind}:: {n}", ""]
            if kind=="class":
                lines[-1:] = ["   :members:", "   :undoc-members:", "   :inherited-members: object, tuple, BaseCodec", ""]
        return self.parse_text_to_nodes("\n".join(lines))

def setup(app):
    app.add_directive("symbols", Symbols)
    app.config.autodoc_mock_imports = ["torch","onnx","onnxruntime","matplotlib","dask","xarray","zarr","pyarrow"]
    app.config.autodoc_member_order="bysource"
    return {"parallel_read_safe": True}
