import os

# OpenBLAS reads these when NumPy is loaded; a core type that was forced for some other program
# must not decide what we measure.
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

if __name__ == "__main__":
    from .cli import main  # only now, for it imports NumPy

    raise SystemExit(main())
