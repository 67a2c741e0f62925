"""What Sphinx shows of the package: the lists of docs/reference/api, signatures, links.

``:::{docstring} MODULE`` is that of a module, ``:::{symbols} MODULE`` with a name on each line a
table of these and then all of each.  Docstrings are in NumPy's style, with names in single
backticks; what is public becomes a link.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any
from unittest.mock import MagicMock

from sphinx.application import Sphinx
from sphinx.ext import napoleon
from sphinx.ext.autodoc.mock import mock
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.nodes import make_refnode

# without the core the functions are Python's, whose signatures have types
sys.modules["zeropoint._core"] = None  # type: ignore[assignment]
#: what modules import at their top; the pages are the same with and without them
HEAVY = ["dask", "matplotlib", "onnxruntime", "pyarrow", "torch", "xarray", "zarr"]
# numbers of onnx are converted and its types joined, which autodoc's mocks cannot
sys.modules |= {name: MagicMock() for name in ("onnx", "onnx.external_data_helper")}

#: names in annotations that say less than what they stand for
PARAMS = "QuantParams | OffsetParams"
TYPES = {
    "Array": "numpy.ndarray",
    "Params": PARAMS,
    "QuantParams | Any": PARAMS,
    "_Kind": PARAMS,
    "_Data": "Dataset | DataArray",
    "_Observer": "MinMaxObserver | HistogramObserver",
    "_PathLike": "str | PathLike",
    "_Reader": "CalibrationDataReader",
    "Model": "ModelProto | str | PathLike",
    "Patterns": "str | Iterable[str] | None",
    "Progress": "Callable[[int, int], object]",
    "np.dtype[Any]": "numpy.dtype",
}

NAPOLEON = napoleon.Config(napoleon_use_rtype=False, napoleon_attr_annotations=False)


def expand(app: Sphinx, page: str, source: list[str]) -> None:
    """``docstring`` and ``symbols`` of a page as reStructuredText, which `autodoc` needs."""

    def expanded(found: re.Match[str]) -> str:
        if found[1] == "docstring":
            lines = [f".. automodule:: {found[2]}", "   :no-members:"]
        else:
            lines = symbols(found[2], found[3].split())
        return "\n".join(["```{eval-rst}", *lines, "```"])

    if page.startswith("reference/api/"):
        block = r"^:::\{(docstring|symbols)\} (\S+)\n((?:\w+\n)*):::$"
        source[0] = re.sub(block, expanded, source[0], flags=re.MULTILINE)


def symbols(name: str, names: list[str]) -> list[str]:
    """A table of their first lines, then all of each."""
    public = importlib.import_module("zeropoint")
    with mock(HEAVY):
        module = importlib.import_module(name)
    table, whole = [".. list-table::", "   :widths: auto", ""], list[str]()
    for name in names:
        value = getattr(module, name)
        elsewhere = module is not public and getattr(public, name, None) is value
        link = f"zeropoint.{name}" if elsewhere else name
        table += [f"   * - :py:obj:`{link}`", f"     - {first_line(name, value)}"]
        whole += [] if elsewhere else documented(name, value)
    return [f".. py:currentmodule:: {module.__name__}", "", *table, "", *whole]


def first_line(name: str, value: object) -> str:
    if not callable(value):
        return comment(name, value)
    return linked(value, (inspect.getdoc(value) or "").partition("\n")[0])


def documented(name: str, value: object) -> list[str]:
    if not callable(value):
        return [f".. py:data:: {name}", "", f"   {comment(name, value)}", "", *content(value)]
    if not isinstance(value, type):
        return [f".. autofunction:: {name}", ""]
    if issubclass(value, BaseException):
        return [f".. autoexception:: {name}", ""]
    for each in value.__mro__:
        if each.__module__.startswith("zeropoint"):
            kinds = inspect.get_annotations(each).items()
            each.__annotations__ = {name: in_words(kind) for name, kind in kinds}
            for inside in vars(each).values():
                if isinstance(inside, property):
                    hints = inside.fget.__annotations__
                    hints["return"] = in_words(hints["return"])
    # attributes that the parameters of the constructor explain are not shown once more
    options = [":members:", ":inherited-members: object, tuple", ":special-members: __call__"]
    options += [] if has_parameters(value) else [":undoc-members:"]
    return [f".. autoclass:: {name}", *(f"   {option}" for option in options), ""]


def comment(name: str, value: object) -> str:
    """The ``#:`` comment of a constant, in the module where it is made."""
    for module in [each for each in sys.modules if each.startswith("zeropoint")]:
        if getattr(sys.modules[module], name, None) is value:
            lines = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name))
            if lines:
                return " ".join(lines).strip()
    raise ValueError(f"{name} needs a comment that begins with #:")


def content(value: Any) -> list[str]:
    if not isinstance(value, Mapping):
        text = ", ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
        return [f"   ``{text}``", ""]
    rows = []
    for key, row in value.items():
        text = row if isinstance(row, str) else f"``{row.formula}``: {row.same_bits_as}"
        rows += [f"      * - ``{key}``", f"        - {text}"]
    return ["   .. list-table::", "      :widths: auto", "", *rows, ""]


def has_parameters(value: object) -> bool:
    return "Parameters\n---" in (inspect.getdoc(value) or "")


# ---------------------------------------------------------------------------------------------
# Signatures and links


def signature(
    app: Sphinx, what: str, name: str, value: Any, options: Any, given: Any, returned: Any
) -> tuple[str, str] | None:
    """As in the source; none of a class that functions make, whose fields say the same."""
    if what not in ("class", "function", "method"):
        return None
    if what == "class" and not has_parameters(value):
        return "", ""
    found = inspect.signature(value)
    shown = []
    for each in found.parameters.values():
        if each.name in ("self", "cls"):
            continue
        if each.annotation == "Never":  # `*wrong`, which explains what is one argument too many
            shown.append("*")
            continue
        if each.kind is each.KEYWORD_ONLY and not any(text.startswith("*") for text in shown):
            shown.append("*")
        text = {each.VAR_KEYWORD: "**", each.VAR_POSITIONAL: "*"}.get(each.kind, "") + each.name
        if each.annotation is not each.empty:
            text += f": {in_words(each.annotation)}"
        if each.default is not each.empty:
            text += f" = {each.default!r}"
        shown.append(text)
    if shown[-1:] == ["*"]:
        del shown[-1]
    result = "" if what == "class" else in_words(found.return_annotation)
    return f"({', '.join(shown)})", result


def in_words(annotation: Any) -> str:
    text = getattr(annotation, "__forward_arg__", annotation)
    text = text if isinstance(text, str) else inspect.formatannotation(text)
    text = re.sub(r"\b(zp|_patterns)\.", "", text)
    for name, meaning in TYPES.items():
        text = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", meaning, text)
    return text


def docstring(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """NumPy's sections, links; in the comment of an attribute a colon has no meaning."""
    owner = name if what in ("class", "exception") else name.rpartition(".")[0]
    text = [linked(value, line, owner) for line in lines]
    if what not in ("attribute", "data"):
        kind = "method" if what == "property" else what
        text = napoleon.NumpyDocstring(text, NAPOLEON, app, kind, name, value, options).lines()
    lines[:] = text


def linked(value: Any, line: str, owner: str = "") -> str:
    """Names of parameters as literals, as no link leads to them; calls as links.

    What a class has goes before what its module has, which Sphinx does the other way round.
    """
    module, _, name = owner.rpartition(".")
    kind = getattr(sys.modules.get(module), name, None)
    parameters: set[str] = set()
    for each in value, kind:
        with contextlib.suppress(TypeError, ValueError):
            parameters |= set(inspect.signature(each).parameters)

    def changed(found: re.Match[str]) -> str:
        word, call = found[1], found[2] or ""
        if word in parameters:
            return f"``{word}{call}``"
        target = f"{owner}.{word}" if isinstance(kind, type) and hasattr(kind, word) else word
        return f":py:obj:`{word}{call} <{target}>`"

    line = re.sub(r"(?<![`:\w])`([\w.]+)(\([^`]*\))?`(?!`)", changed, line)
    return re.sub(r"`{0,2}\bdocs/([\w/-]+)\.md`{0,2}", r":doc:`/\1`", line)


def link(app: Sphinx, environment: Any, node: Any, content: Any) -> Any:
    """From a name of `zeropoint` in a docstring or signature of another module."""
    found = environment.domains["py"].objects.get(f"zeropoint.{node.get('reftarget')}")
    if node.get("refdomain") != "py" or found is None:
        return None
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, content)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", expand)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("missing-reference", link)
    return {"parallel_read_safe": True}
