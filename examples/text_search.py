"""Search in text with 8-bit embeddings: the neighbours that are found, and what rescoring adds.

    pip install ".[demo]"
    python examples/text_search.py

Nothing is downloaded: the sentences are those of Python's own documentation, in its standard
library, and the model that embeds them is the one inside wordllama's wheel, 256 dimensions.
"""

import ast
import re
import sys
import sysconfig
from importlib import import_module
from pathlib import Path

try:
    import numpy as np
    import wordllama

    from zeropoint.embeddings import EmbeddingQuantizer
except ImportError as error:
    sys.exit(f"text_search.py: {error}; its first lines say what to install")

QUERIES, NEIGHBOURS, RESCORED = 500, 10, 20
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
#: the arguments of EmbeddingQuantizer
STYLES = {
    "sentence-transformers": {"style": "sentence-transformers"},
    "faiss": {"style": "faiss"},
    "faiss, uniform=True": {"style": "faiss", "uniform": True},
    "rows": {"style": "rows"},
}


# ---------------------------------------------------------------------------------------------
# The data


def sentences():
    """The sentences of docstrings and of the language reference, each once, in order."""
    found = set()
    library = Path(sysconfig.get_path("stdlib"))
    for path in library.rglob("*.py"):
        if LEFT_OUT.intersection(path.relative_to(library).parts):
            continue
        try:
            nodes = ast.walk(ast.parse(path.read_bytes()))
        except (SyntaxError, ValueError):  # templates of lib2to3
            continue
        kinds = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
        for node in nodes:
            if isinstance(node, kinds):
                found.update(split(ast.get_docstring(node) or ""))
    for text in import_module("pydoc_data.topics").topics.values():
        found.update(split(text))
    return sorted(found)


def split(text):
    """Sentences of five words or more; no examples of code."""
    for paragraph in re.split(r"\n\s*\n", text):
        if ">>>" not in paragraph:
            for one in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
                if len(one.split()) >= 5 and one[-1] in ".!?":
                    yield one


def embedded(texts):
    """Unit vectors, float32 [texts, 256]."""
    inside = Path(wordllama.__file__).parent  # where its files are; it would look elsewhere
    model = wordllama.WordLlama.load(cache_dir=inside, disable_download=True)
    return np.asarray(model.embed(texts, norm=True), np.float32)


# ---------------------------------------------------------------------------------------------
# The search


def best(scores, count):
    """The columns of the `count` largest of each row, the largest first."""
    found = np.argpartition(-scores, count, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def recall(true, found):
    """The share of the true neighbours that are among those found."""
    return float(np.mean([np.isin(*pair).mean() for pair in zip(true, found, strict=True)]))


def all_scores(table, queries):
    """For each way to store the table: bytes a row, the scores of float32 queries, of codes."""
    yield "float32", table[0].nbytes, queries @ table.T, queries @ table.T
    for name, arguments in STYLES.items():
        quantizer = EmbeddingQuantizer(**arguments).fit(table)
        codes, asked = quantizer.transform(table), quantizer.transform(queries)
        size = codes.scales.itemsize + table.shape[1] if name == "rows" else table.shape[1]
        values, query_values = map(quantizer.inverse_transform, (codes, asked))
        yield name, size, queries @ values.T, query_values @ values.T
    # what is often done instead: int8 codes multiplied as they are, offsets and scales forgotten;
    # and a line by hand, which rounds nothing and uses few of the codes
    quantizer = EmbeddingQuantizer("sentence-transformers").fit(table)
    for name, codes_of in (
        ("codes multiplied as they are", quantizer.transform),
        ("(x * 127).astype(int8)", lambda x: (x * 127).astype(np.int8)),
    ):
        codes, asked = (np.float32(codes_of(x)) for x in (table, queries))
        yield name, table.shape[1], queries @ codes.T, asked @ codes.T


def measured(table, queries, candidates=(RESCORED,)):
    """A dictionary for each way to store the table: size, and shares of the true neighbours.

    `rescored` is the share when codes find so many candidates, which float32 vectors then order.
    """
    scores = queries @ table.T
    true = best(scores, NEIGHBOURS)
    for name, size, by_values, by_codes in all_scores(table, queries):
        found = best(by_codes, max(candidates))
        yield {
            "style": name,
            "bytes_per_row": size,
            "float_query": recall(true, best(by_values, NEIGHBOURS)),
            "code_query": recall(true, found[:, :NEIGHBOURS]),
            "rescored": {n: recall(true, rescored(scores, found[:, :n])) for n in candidates},
        }


def rescored(scores, found):
    """Of the rows found, the nearest by float32 vectors: a search computes these scores alone."""
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order[:, :NEIGHBOURS], axis=1)


def data():
    """Table and queries: sentences drawn at random, which the table then has not."""
    # sentences of the same words have the same embedding: none is a neighbour more than the other
    rows = np.random.default_rng(0).permutation(np.unique(embedded(sentences()), axis=0))
    return rows[QUERIES:], rows[:QUERIES]


def main():
    table, queries = data()
    print(f"{len(table):,} sentences in {table.shape[1]} dimensions; {len(queries)} queries\n")
    print(f"{'recall@10':30}{'bytes a row':>12}{'float32 query':>15}{'8-bit query':>13}", end="")
    print(f"{f'best of {RESCORED} rescored':>24}")
    rows = {row["style"]: row for row in measured(table, queries)}
    for name, row in rows.items():
        print(f"{name:30}{row['bytes_per_row']:12}{row['float_query']:15.4f}", end="")
        print(f"{row['code_query']:13.4f}{row['rescored'][RESCORED]:24.4f}")
    good = all(
        rows[name]["code_query"] > 0.98 and rows[name]["rescored"][RESCORED] > 0.999
        for name in STYLES
    )
    sys.exit(None if good else "the codes lose too many neighbours")


if __name__ == "__main__":
    main()
