"""``zeropoint diagnose``."""

from __future__ import annotations

import json

import numpy as np
import pytest

import zeropoint as zp
from tests.test_cli import as_json, run

PARAMS = zp.QuantParams(0.02, 120)


@pytest.fixture
def x(tmp_path, monkeypatch):
    """x.npy, and q.npy with truncated codes of it, in the current directory."""
    x = np.random.default_rng(3).normal(0, 1, (30, 20)).astype(np.float32)
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    np.save("q.npy", np.clip(x / np.float32(0.02) + 120, 0, 255).astype(np.uint8))
    return x


def test_the_mistake_is_named(capsys, x):
    printed = run(capsys, "diagnose", "x.npy", "q.npy", "--scale", "0.02", "--zero-point", "120")
    assert printed.err == ""
    assert printed.out == f"{zp.diagnose(x, np.load('q.npy'), PARAMS)}\n"
    assert printed.out.startswith("truncated, or floored ")


def test_json(capsys, x):
    arguments = ("diagnose", "x.npy", "q.npy", "--scale", "0.02", "--zero-point", "120", "--json")
    found = as_json(run(capsys, *arguments).out)
    assert found["explanations"][0]["mistakes"] == ["truncated"]
    assert found["text"].startswith("truncated, or floored ")
    assert found["size"] == x.size


@pytest.mark.parametrize("how", ["commas", "files", "json"])
def test_parameters_of_channels(capsys, x, how):
    params = zp.choose_params(x, "int8", axis=1, convention="torch")
    np.save("q.npy", zp.quantize(x, params))
    arguments = ["--axis", "1", "--convention", "torch"]
    if how == "commas":
        arguments += ["--scale", ",".join(map(str, params.scale))]
        arguments += [f"--zero-point={','.join(map(str, params.zero_point))}"]
    elif how == "files":
        np.save("s.npy", params.scale)
        np.save("z.npy", params.zero_point)
        arguments += ["--scale", "s.npy", "--zero-point", "z.npy"]
    else:
        with open("p.json", "w", encoding="utf-8") as file:
            json.dump(params.to_dict(), file)
        arguments = ["--params", "p.json"]
    printed = run(capsys, "diagnose", "x.npy", "q.npy", *arguments)
    assert printed.out.startswith("equal to `torch` in all 600 codes\n\n")


@pytest.mark.parametrize(
    ("params", "options"),
    [
        (zp.OffsetParams(0.02, -2.5), ["--scale", "0.02", "--offset", "-2.5"]),
        (
            zp.OffsetParams(None, -2.5, "int8", span=5, convention="faiss"),
            ["--span", "5", "--offset=-2.5", "--convention", "faiss"],
        ),
    ],
)
def test_real_offsets(capsys, x, params, options):
    np.save("q.npy", zp.quantize(x, params))
    printed = run(capsys, "diagnose", "x.npy", "q.npy", *options)
    assert printed.out.startswith(f"equal to `{params.convention}` in all 600 codes\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "pass --scale and --zero-point, or --params FILE.json"),
        (("--scale", "a"), 2, "--scale 'a' must be a number, several with commas, or a .npy file"),
        (("--scale", "1", "--zero-point", "1.5"), 2, "--zero-point '1.5' must be an integer"),
        (("--scale", "1", "--zero-point", "1", "--offset", "1"), 2, "exclude each other"),
        (("--scale", "0"), 1, "scale"),
        (("--scale", "1,2"), 1, "axis"),
        (("--scale", "none.npy"), 1, "none.npy"),
        (("--params", "x.json"), 1, "x.json does not hold params.to_dict()"),
        (("--params", "x.json", "--qmin", "1"), 2, "leave out qmin"),
    ],
)
def test_wrong_parameters(capsys, x, arguments, code, message):
    with open("x.json", "w", encoding="utf-8") as file:
        file.write("[1]")
    printed = run(capsys, "diagnose", "x.npy", "q.npy", *arguments, code=code)
    assert printed.out == ""
    assert message in printed.err


def test_files_that_do_not_fit(capsys, x):
    np.savez("two.npz", a=x, b=x)
    np.save("short.npy", x[1:])
    printed = run(capsys, "diagnose", "two.npz", "q.npy", "--scale", "1", code=1)
    assert "two.npz has 2 tensors; pass a file that has one" in printed.err
    printed = run(capsys, "diagnose", "short.npy", "q.npy", "--scale", "1", code=1)
    assert "q has shape (30, 20) and x has shape (29, 20)" in printed.err
    printed = run(capsys, "diagnose", "q.npy", "q.npy", "--scale", "1", code=1)
    assert "x has dtype uint8" in printed.err
