"""The benchmark suite: zeropoint beside NumPy, Numba, ONNX Runtime, torch, LiteRT and others.

``python -m bench --help`` runs it, writes JSON and pages, and compares two runs; the guide is
docs/how-to/benchmark.md.  ``python -m bench.plot`` draws a run, ``python -m bench.speed`` makes the
tables of docs/speed.md from one.  ``python -m bench.targets`` measures what the project has set
itself, and says by how much one is missed.

- `jobs` says what is computed, and makes the data.  A new job is an entry of `jobs.JOBS`.
- `operations` knows zeropoint's function for each operation; `loads`, what else the machine does.
- `systems/` says who computes it, one small file a peer.  A new peer is a subclass of
  `systems.base.System` with a method for each operation that it knows, and a row in
  `systems.SYSTEMS`.
- `check` compares every result with the right one before it is timed, `timing` takes the times,
  `suite` puts the two together.
- `groups` sorts the jobs by what somebody wants to do.  `report` turns a run into tables and JSON,
  `page` into HTML; `machine` says where it ran, and what makes the figures less sure.
- `compare` puts two runs beside each other; `against` measures two installations in turns.
- `calibration`, `growth_dask` and `scale_out` are runs of their own, for the tables of
  docs/measured.md.
"""
