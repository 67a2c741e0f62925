"""The pages say what the code says: tables come from the code, and every block of code runs."""

from __future__ import annotations

import ast
import doctest
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy

import zeropoint as zp
from zeropoint import _cli

from . import checkpoints
from .gguf_parts import info, made

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def table(text: str, name: str) -> list[str]:
    """The rows of a table between markers."""
    inside = text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0]
    return inside.strip().splitlines()[2:]


def named(name: str, row: Any) -> str:
    aliases = f" ({', '.join(f'`{alias}`' for alias in row.aliases)})" if row.aliases else ""
    return f"`{name}`{aliases}"


def test_conventions_table() -> None:
    rows = []
    for name, row in zp.CONVENTIONS.items():
        cells = named(name, row), f"`{row.formula}`", row.same_bits_as, row.default_rule
        rows.append(f"| {' | '.join(cells)} |")
    assert table((ROOT / "docs/conventions.md").read_text(), "conventions") == rows


def test_table_of_real_offsets() -> None:
    rows = []
    for name, row in zp.OFFSET_CONVENTIONS.items():
        formula, *more = row.value.split(", ")
        cells = [named(name, row), f"`{row.formula}`", ", ".join([f"`{formula}`", *more])]
        cells += [row.same_bits_as, f"`{row.default_rule}`"]
        rows.append(f"| {' | '.join(cells)} |")
    assert table((ROOT / "docs/conventions.md").read_text(), "offsets") == rows


# ---------------------------------------------------------------------------------------------
# Every block of code


class Block(NamedTuple):
    line: int
    language: str
    code: str


def sections(page: Path) -> dict[str, list[Block]]:
    """The blocks of code under each heading of a page; the tutorial is read from top to bottom."""
    found: dict[str, list[Block]] = {}
    heading, block = "", None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            if block is None:
                block = Block(number, line[3:], "")
            else:
                found.setdefault(heading, []).append(block)
                block = None
        elif block is not None:
            block = block._replace(code=f"{block.code}{line}\n")
        elif line.startswith("#") and page.name != "tutorial.md":
            heading = line.lstrip("# ")
    assert block is None, f"{page.name}: the block of line {block.line} has no end"
    return found


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
SECTIONS = {
    f"{page.name}: {heading}": blocks
    for page in PAGES
    for heading, blocks in sections(page).items()
}
#: run by .ci/run, each line in a machine of its own
QUICK_START = "README.md: Quick start"


def missing(code: str) -> list[str]:
    """The packages that a block of Python needs and that are not installed."""
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(code))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    absent = [name for name in sorted(modules) if importlib.util.find_spec(name) is None]
    for name in re.findall(r'distribution\("([^"]+)"\)', code):
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    return absent


@functools.cache
def onnx_model() -> bytes:
    """A layer of 64 numbers to 8."""
    import onnx

    text = """<ir_version: 10, opset_import: ["" : 21]>
        layer (float[N, 64] x) => (float[N, 8] y) { y = MatMul(x, weight) }"""
    model = onnx.parser.parse_model(text)
    weight = onnx.numpy_helper.from_array(np.ones((64, 8), np.float32), "weight")
    model.graph.initializer.append(weight)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The files of a reader, in the current directory: some layers, models."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    tensors = {}
    for i in range(3):
        tensors[f"layer.{i}.weight"] = rng.normal(size=(64, 192)).astype(np.float32)
        tensors[f"layer.{i}.bias"] = rng.normal(size=64).astype(np.float32)
    np.savez("model.npz", **tensors)
    safetensors.numpy.save_file(tensors, "model.safetensors")
    Path("model").mkdir()
    safetensors.numpy.save_file(tensors, "model/model.safetensors")
    Path("model/config.json").write_text("{}")
    checkpoints.llama(Path("llama"), "bfloat16", shards=2)
    checkpoints.diffusion(Path("image.safetensors"))
    weight = tensors["layer.0.weight"].astype("<f2")
    content = made([], [info("layer.0.weight", weight.shape, 1)], weight.tobytes())
    Path("model-f16.gguf").write_bytes(content)
    shutil.copy(ROOT / "docs/reference/vectors.json", ".")
    Path("model.onnx").write_bytes(onnx_model())
    np.savez("samples.npz", x=rng.normal(size=(10, 64)).astype(np.float32))
    needs = [block.code for block in SECTIONS[request.getfixturevalue("section")]]
    if "image.tflite" in "".join(needs) and not any(map(missing, needs)):
        example = runpy.run_path(str(ROOT / "examples/pipeline.py"), run_name="pipeline")
        Path("image.tflite").write_bytes(example["image_model"]())


def alike(printed: str, shown: str, loosely: bool) -> bool:
    """Whether the words are the same, and the numbers: loosely what another CPU's sums may give,
    which is 2%, a code, or a step of a real number."""
    pattern = re.compile(r"(-?\d+(?:\.\d*)?(?:e-?\d+)?)")
    ours, wanted = (pattern.split(" ".join(text.split())) for text in (printed, shown))

    def near(a: str, b: str) -> bool:
        least = 1 if (a + b).lstrip("-").replace("-", "").isdecimal() else 0.01
        return abs(float(a) - float(b)) <= max(least, abs(float(b)) / 50)

    return len(ours) == len(wanted) and all(
        a == b or bool(loosely and i % 2 and near(a, b))
        for i, (a, b) in enumerate(zip(ours, wanted, strict=True))
    )


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("[-3 20]", "[-4  21]", True),
        ("[-3 20]", "[-5 20]", False),
        ("0.33751163 is", "0.341 is", True),
        ("0.98 is", "0.03 is", False),
        ("0.33 is", "-0.33 is", False),
        ("98.9%", "99.2%", True),
        ("87.2%", "99.2%", False),
        ("1 kind", "1 kinds", False),
    ],
)
def test_loosely_alike(printed: str, shown: str, same: bool) -> None:
    assert alike(printed, shown, loosely=True) == same
    assert not alike(printed, shown, loosely=False)


@pytest.mark.usefixtures("models")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("section", [name for name in SECTIONS if name != QUICK_START])
def test_every_block_runs_when_pasted(section: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of one section one after the other, as a reader pastes them.

    A block of text is what the block before it prints.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    lacking: list[str] = []
    of_command = False
    for block in SECTIONS[section]:
        where = f"{section}, line {block.line}"
        printed = capsys.readouterr().out  # by the block before
        if block.language == "python":
            if absent := missing(block.code):
                lacking.append(f"{where}: NOT RUN, for want of {', '.join(absent)}")
                break  # the next blocks go on with its names
            exec(compile(block.code, where, "exec", dont_inherit=True), names)
        elif block.language == "text":
            # an engine's sums depend on the CPU, sizes of files on who writes them
            assert alike(printed, block.code, of_command or "onnxruntime" in names), where
        elif block.language == "sh":
            for line in block.code.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line, comments=True)
                assert program == "zeropoint", f"{where}: {line} is run by no test"
                assert _cli.main(arguments) == 0, f"{where}: {line}"
        else:
            assert (section, block.language) in BUILT, (
                f"{where}: {block.language} is run by no test"
            )
        of_command = block.language == "sh"
    if lacking:
        pytest.skip("; ".join(lacking))


def test_the_quick_start_runs() -> None:
    """Its Python; its two commands are run by .ci/run, which finds them in README."""
    shell, python = SECTIONS[QUICK_START]
    assert (shell.language, python.language) == ("sh", "python")
    assert len(shell.code.strip().splitlines()) == 2
    ci = ROOT / ".ci/run"  # not in a source distribution
    assert not ci.exists() or '"$(quick_start 2)"' in ci.read_text()
    names: dict[str, object] = {}
    exec(python.code, names)
    assert isinstance(names["q"], np.ndarray)


PACKAGE = ROOT / "python"
DOCTESTS = [
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


def given(module: str) -> dict[str, object]:
    """What the example of a module takes for granted: names, and files in the current directory."""
    if module == "zeropoint.files":
        return {"zeropoint": zp, "x": np.ones((4, 8), np.float32)}
    if module == "zeropoint.interop.torch":
        import torch

        return {"torch": torch, "x": torch.randn(100)}
    if module == "zeropoint.interop.litert":
        from ai_edge_litert.interpreter import Interpreter

        found = importlib.metadata.distribution("pymicro-wakeword")
        model = Path(str(found.locate_file("pymicro_wakeword/models/hey_jarvis.tflite")))
        Path("hey_jarvis.tflite").write_bytes(model.read_bytes())
        return {"Interpreter": Interpreter, "features": np.zeros((1, 3, 40), np.float32)}
    if module == "zeropoint.interop.onnx":
        import onnx

        weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "weight")
        text = """<ir_version: 10, opset_import: ["" : 21]>
            small (float[N, 64] x) => (float[N, 64] y)
            <float s = {0.5}, uint8 z = {3}> {
                code = QuantizeLinear(x, s, z)
                input = DequantizeLinear(code, s, z)
                y = MatMul(input, weight)
            }"""
        model = onnx.parser.parse_model(text)
        model.graph.initializer.append(weight)
        for name in ("float.onnx", "quantized.onnx"):
            onnx.save(model, name)
        return {"onnx": onnx}
    return {}


@pytest.mark.parametrize("module", DOCTESTS)
def test_examples_of_docstrings_run(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        found = importlib.import_module(module)
        names = {**vars(found), **given(module)}
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        pytest.skip(f"NOT RUN: {error}")
    docstrings = [
        ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(inspect.getsource(found)))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    examples = doctest.DocTestParser().get_examples("\n\n".join(docstrings))
    assert examples
    for example in examples:
        if example.want:
            assert f"{eval(example.source, names)!r}\n" == example.want
        else:
            exec(example.source, names)


#: what is built and run by the test below, test_c_interface.py, test_testing.py and test_probe.py
BUILT = {
    *(("cpp.md: C++", language) for language in ("cpp", "cmake")),
    *(("c.md: C", language) for language in ("c", "bash", "cmake")),
    *(("vectors.md: C", "c"), ("vectors.md: Rust", "rust"), ("vectors.md: JavaScript", "js")),
    *(("vectors.md: A conformance kit", ""), ("conventions.md: Ask your engine", "")),  # printed
}


@pytest.mark.slow("a build")
def test_cpp_works_when_pasted(tmp_path: Path) -> None:
    if not zp.backends()[:-1]:
        pytest.skip("the core is absent")
    blocks = {block.language: block.code for block in SECTIONS["cpp.md: C++"]}
    (tmp_path / "main.cpp").write_text(blocks["cpp"])
    (tmp_path / "CMakeLists.txt").write_text(blocks["cmake"])
    where = subprocess.run(
        [sys.executable, "-m", "zeropoint", "--cmakedir"],
        check=True,
        capture_output=True,
        text=True,
    )
    prefix = f"-DCMAKE_PREFIX_PATH={where.stdout.strip()}"
    for command in (
        ["cmake", "-G", "Ninja", "-B", "b", prefix],
        ["cmake", "--build", "b"],
        ["b/engine"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.PIPE)


def test_the_functions_of_the_tutorial() -> None:
    x = np.array([-0.75, -0.45, 1.75], np.float32)
    page = (ROOT / "docs/reference/functions.md").read_text()
    section = page.split("## The functions of the tutorial")[1].split("\n## ")[0]
    ours = re.findall(r"\| `[^`]+` \| `(zp\.[^`]+)` \|", section)
    assert len(ours) == 5
    scope = {"zp": zp, "x": x, "qmin": 0, "qmax": 255, "params": zp.choose_params(x)}
    scope["q"] = zp.quantize(x, scope["params"])
    for expression in ours:
        eval(expression, scope)


def test_readme_fits_two_screens() -> None:
    lines = README.splitlines()
    assert len(lines) <= 100
    assert all(len(line) <= 110 for line in lines if not line.startswith("|"))


def test_the_map_of_the_tree_is_complete() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    modules = {path.stem for path in PACKAGE.glob("zeropoint/*.py")} - {"__init__", "__main__"}
    sources = {path.name for path in ROOT.glob("cpp/*/*") if path.suffix in (".cpp", ".def")}
    assert not {name for name in modules | sources if not re.search(rf"\b{name}\b", text)}


def anchors(page: Path) -> set[str]:
    """What `page.md#name` can lead to, by the names that code hosts give to headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


LINKING = [*PAGES, *(page for page in sorted(ROOT.glob("*.md")) if page not in PAGES)]


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Within the project they lead to something, on a code host too; others are of good form.

    The links of the site are followed when it is built (docs/conf.py).
    """
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)]+)\)|^\[[^\]]+\]: (\S+)$", text, re.MULTILINE):
        where, _, name = "".join(target).partition("#")
        if "://" in where:
            assert re.fullmatch(r"https://[a-z0-9.-]+\.[a-z]+(/[\w./~%+=&?-]*)?", where), target
        else:
            file = (page.parent / where).resolve() if where else page
            assert file.is_relative_to(ROOT), target
            assert file.exists(), target
            assert not name or name in anchors(file), target


def test_what_is_wrong_with_a_site(tmp_path: Path) -> None:
    """The check that `docs/conf.py` makes of the built one finds each fault, and nothing else."""
    faults = (
        ("a href", "gone.html", "leads nowhere"),
        ("a href", "../b.html", "leads nowhere"),
        ("img src", "gone.png", "leads nowhere"),
        ("a href", "b.html#gone", "has no such place"),
        ("a href", "#gone", "has no such place"),
        ("a href", "a.css#gone", "has no such place"),
        ("a href", "http://example.org", "leaves the site"),
        ("img src", "https://example.org/a.png", "leaves the site"),
        ("script src", "//example.org/a.js", "leaves the site"),
        ("link href", "https://example.org/a.css", "leaves the site"),
    )
    fine = """<h1 id="top"></h1><a href="#top"><a href="b.html#there"><a href="b.html?q=a#there">
        <a href="https://example.org"><img src="data:image/png;base64,AAAA"><link href="a.css">"""
    (tmp_path / "a.html").write_text(
        fine + "".join(f'<{name}="{target}"/>' for name, target, _ in faults)
    )
    (tmp_path / "b.html").write_text('<p id="there"><a name="here"></a><a href="a%2Ehtml#top">')
    (tmp_path / "a.css").write_text("p {color: red}")
    (tmp_path / "b.css").write_text("@font-face {src: url(https://example.org/a.woff)}")
    (tmp_path / "c.css").write_text("@font-face {src: url( '//example.org/a.woff')}")
    (tmp_path / "d.css").write_text("p {background: url('data:image/svg+xml,//www.w3.org')}")
    check = runpy.run_path(str(ROOT / "docs/links.py"))["check"]
    found = {re.sub(r"^a.html: '(.*)' ", r"\1 ", fault) for fault in check(tmp_path)}
    wanted = {f"{target} {what}" for _, target, what in faults}
    assert found == wanted | {f"{name}.css loads something from elsewhere" for name in "bc"}


def test_version_is_in_the_changelog() -> None:
    assert f"## {zp.__version__}" in (ROOT / "CHANGELOG.md").read_text()
