"""Run the notebook, and write what it prints into it; its pictures stay out.

    python -m bench.notebook            run it, and write it anew
    python -m bench.notebook --check    only say whether it prints what it shows

Needs nbclient, nbformat and ipykernel, and what the notebook itself names.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from .machine import ROOT
from .systems.base import module

NOTEBOOK = ROOT / "examples/wrong_to_right.ipynb"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.notebook", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    nbformat = module("nbformat")
    before = nbformat.read(NOTEBOOK, as_version=4)
    after = executed(before)
    if not options.check:
        nbformat.write(after, NOTEBOOK)
        return 0
    wrong = False
    for cell, wanted in zip(after.cells, before.cells, strict=True):
        found, shown = (_texts(each) for each in (cell, wanted))
        if found != shown:
            wrong = True
            print(f"{cell.source}\nprints\n{found}\nand the notebook shows\n{shown}\n")
    if wrong:
        print("python -m bench.notebook writes it anew", file=sys.stderr)
    return int(wrong)


def executed(notebook: Any) -> Any:
    """The notebook as it is after a run, without pictures, times and versions.

    nbclient.exceptions.CellExecutionError: a cell raises.
    """
    with tempfile.TemporaryDirectory() as folder:  # where nothing of the checkout is found
        where = {"metadata": {"path": folder}}
        client = module("nbclient").NotebookClient(
            notebook.copy(), kernel_name="python3", resources=where
        )
        kernel = client.create_kernel_manager()
        kernel.transport = "ipc"  # by files: others on the machine can reach a port
        kernel.connection_file = f"{folder}/kernel.json"
        found = client.execute()
    found.metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    for cell in found.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [output for output in cell.outputs if _is_text(output)]
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = None
    return found


_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def _is_text(output: Any) -> bool:
    if output.output_type == "stream":
        return bool(output.name == "stdout")
    return not any(kind.startswith("image/") for kind in output.get("data", {}))


def _texts(cell: Any) -> list[str]:
    """What a cell prints and shows."""
    if cell.cell_type != "code":
        return []
    outputs = cell.outputs
    return [each.get("text") or "\n".join(each.get("data", {}).values()) for each in outputs]


if __name__ == "__main__":
    raise SystemExit(main())
