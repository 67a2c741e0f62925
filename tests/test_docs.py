"""README says what the code says: its tables come from the code, its example runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zeropoint as zp

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def code_blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_conventions_table() -> None:
    table = README.split("<!-- conventions:begin -->")[1].split("<!-- conventions:end -->")[0]
    rows = []
    for name, row in zp.CONVENTIONS.items():
        aliases = f" ({', '.join(f'`{alias}`' for alias in row.aliases)})" if row.aliases else ""
        cells = f"`{name}`{aliases}", f"`{row.formula}`", row.same_bits_as, row.own_rule
        rows.append(f"| {' | '.join(cells)} |")
    assert table.strip().splitlines()[2:] == rows


def test_first_example_runs() -> None:
    code = code_blocks("python")[0]
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["q"], np.ndarray)


PIPELINES = {  # what the section's code needs
    "LiteRT": ["ai_edge_litert", "pymicro_wakeword"],
    "ONNX": ["onnx", "magika"],
    "torch": ["torch"],
}


@pytest.mark.parametrize("engine", PIPELINES)
def test_pipelines_work_when_pasted(engine: str, tmp_path: Path) -> None:
    for package in PIPELINES[engine]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    [code] = code_blocks("python", README.split(f"\n### {engine}\n")[1].split("\n#")[0])
    (tmp_path / "pasted.py").write_text(code)
    subprocess.run([sys.executable, "pasted.py"], cwd=tmp_path, check=True, stdout=subprocess.PIPE)


def test_cpp_works_when_pasted(tmp_path: Path) -> None:
    if not zp.backends()[:-1]:
        pytest.skip("the core is absent")
    (tmp_path / "main.cpp").write_text(code_blocks("cpp")[0])
    (tmp_path / "CMakeLists.txt").write_text(code_blocks("cmake")[0])
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


def test_quick_start_is_two_lines() -> None:
    section = README.split("## Quick start\n")[1]
    assert section.lstrip().startswith("```sh\n")
    assert len(code_blocks("sh", section)[0].strip().splitlines()) == 2


def test_the_articles_functions() -> None:
    x = np.array([-0.75, -0.45, 1.75], np.float32)
    section = README.split("## From the article")[1].split("\n## ")[0]
    ours = re.findall(r"\| `[^`]+` \| `(zp\.[^`]+)` \|", section)
    assert len(ours) == 5
    scope = {"zp": zp, "x": x, "qmin": 0, "qmax": 255, "params": zp.choose_params(x)}
    scope["q"] = zp.quantize(x, scope["params"])
    for expression in ours:
        eval(expression, scope)


def test_links() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert "://" in target or (ROOT / target).exists(), target


def test_version_is_in_the_changelog() -> None:
    assert f"## {zp.__version__}" in (ROOT / "CHANGELOG.md").read_text()
