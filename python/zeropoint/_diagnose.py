"""Which mistake made these codes: `diagnose`.

All recipes of `_recipes` are tried on a sample, the best of them on all codes, so shares are exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from . import _checks, _fitted, _html, _recipes
from ._backend import ieee
from ._chunks import chunks
from ._params import Params, QuantParams, checked, quantize
from ._recipes import CATALOGUE, Evaluation, Points, Problem, Recipe, Source, Tile
from ._reference import BY_SPAN, Array, widen, working_dtype

_SAMPLE = 1 << 13  # positions at which every recipe is tried
_FEW = 1 << 10  # and pairs of mistakes
_TILE = 1 << 16  # elements that are verified at a time: what fits a cache
_ENOUGH = 0.9  # what other parameters must explain to be believed
_LIKELY = 6  # of the tools' parameters, which are verified
_KINDS = 3  # distinct codes without which no more than a single mistake is sought
#: mistakes that are tried with other parameters
_WITH_RULES = (
    *("truncated", "floored", "ties_away", "ties_half_up", "reciprocal", "wrapped", "not_clipped"),
    *("clipped_127", "uint8_read_as_int8", "off_by_128", "transposed", "division_float16"),
)
_FIX = "q = zp.quantize(x, params)"
_SHOWN = 10  # codes that are left over


@_checks.initialised_once
@dataclass(frozen=True)
class Remaining:
    """A code that the best explanation does not give."""

    index: tuple[int, ...]  #: in q
    value: float  #: of x
    code: float
    expected: float  #: by the best explanation


@_checks.initialised_once
@dataclass(frozen=True)
class Explanation:
    """How codes may have been made, and how many of them that explains."""

    mistakes: tuple[str, ...]  #: their keys; () is the convention as it is
    convention: str  #: of which they are mistakes
    matched: int  #: codes that are explained, exactly
    share: float  #: of all codes
    also: tuple[str, ...]  #: other explanations that give the same codes on these data
    name: str  #: in words, as ``"truncated"``
    text: str  #: what happened
    fix: str  #: a line of code

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return asdict(self)


@_checks.initialised_once
@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` finds: explanations, the best first."""

    explanations: tuple[Explanation, ...]
    size: int  #: codes
    same: tuple[str, ...]  #: conventions that give all codes
    remaining: tuple[Remaining, ...]  #: the first ten that the best explanation leaves
    correct: bool  #: whether these are the codes of `params`
    paragraph: str  #: that names the best
    notes: tuple[str, ...]  #: what else is to be known

    @property
    def best(self) -> Explanation:
        """The first explanation."""
        return self.explanations[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, with the text of `str` among them."""
        return asdict(self) | {"text": str(self)}

    def __str__(self) -> str:
        return "\n".join([self.paragraph, "", *self._details()])

    def _repr_html_(self) -> str:
        """The same, its figures in tables."""
        summary = _html.Html(f"<b>{_html.escape(self.paragraph)}</b>")
        ways = [(e.name, e.convention, e.matched, _percent(e.share)) for e in self.explanations]
        shown: str = _html.table(ways, ("explanation", "of", "codes", "share"), left=(1,))
        if self.remaining:
            left = [
                ([*r.index], f"{r.value:.9g}", f"{r.code:g}", f"{r.expected:g}")
                for r in self.remaining
            ]
            caption = f"The first of the {self.size - self.best.matched} codes that are left"
            shown += _html.table(left, ("index", "x", "code", "expected"), caption=caption)
        more = (*self.notes, *self._also(), *self._fix())
        return "".join([_html.paragraph(summary), shown, *map(_html.paragraph, more)])

    def _details(self) -> Iterator[str]:
        best = self.best
        yield f"Explained: {_of(best.matched, self.size)}."
        yield from self.notes
        yield from self._also()
        some = [e for e in reversed(self.explanations[1:]) if e.share >= 0.01]
        next = {f"{e.name} of `{e.convention}`": e.share for e in some}
        if next:
            shown = [f"{name} {_percent(share)}" for name, share in reversed(next.items())]
            yield f"Next: {'; '.join(shown[:3])}."
        yield from self._fix()

    def _also(self) -> Iterator[str]:
        also = self.best.also
        if also and self.best.mistakes:
            more = f"; and {len(also) - 8} more" if len(also) > 8 else ""
            yield f"The same codes on these data: {'; '.join(also[:8])}{more}."

    def _fix(self) -> Iterator[str]:
        if not self.correct and self.size:
            yield f"Fix: {self.best.fix}"


def _percent(share: float) -> str:
    """Never 100 of what is less."""
    return f"{np.floor(share * 1e4) / 100:g} %"


def _of(matched: int, size: int) -> str:
    if matched == size:
        return f"all {size} codes"
    return f"{matched} of {size} codes ({_percent(matched / size)})"


def diagnose(x: Any, q: Any, params: Params) -> Diagnosis:
    """Which mistake, or which convention, made the codes `q` of `x`.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64, any shape: the data as they should be quantized.
    q
        The codes that somebody's program made of them: integers, floats where it did not round, or
        a quantized tensor of torch.
        Its shape is that of `x`, or has the same lengths in another order.
    params
        The parameters that were meant.

    Returns
    -------
    Diagnosis
        Explanations by the share of the codes that they account for, which is exact; then the
        simplest first.  ``str()`` begins with a paragraph that names the best.

    Raises
    ------
    TypeError
        `x` is not of a supported float dtype, `q` holds no numbers, `params` are of another type.
    ValueError
        Shapes or parameters that do not fit.

    Notes
    -----
    All conventions are tried, then every mistake of a catalogue with each of them, on a sample;
    where no single one explains nine tenths, pairs and parameters that fit; and each convention,
    whatever `params` are, with those that `choose_params` has for `x`.  What is best is verified on
    all codes.

    Examples
    --------
    >>> import numpy as np, zeropoint as zp
    >>> x = np.linspace(-1, 1, 100, dtype=np.float32)
    >>> params = zp.choose_params(x)
    >>> q = (x / params.scale + params.zero_point).astype(np.uint8)
    >>> zp.diagnose(x, q, params).best.name
    'truncated'
    """
    params = checked(params, call="zp.diagnose(x, q, ")
    x = _checks.real_array(x)
    q = q.int_repr() if getattr(q, "is_quantized", None) is True else q  # of torch
    q = _checks.number_array(q, "q")
    if sorted(q.shape) != sorted(x.shape):
        raise ValueError(
            f"q has shape {q.shape} and x has shape {x.shape}; pass the codes of this x, in its "
            "shape or with the same lengths in another order"
        )
    params._check_fits(x.shape)
    params._check_precision(working_dtype(x.dtype))
    return ranked(x, q, params)


# ---------------------------------------------------------------------------------------------
# The ranking


_Way = tuple[int, str, str]  #: place in the catalogue, field of the recipe, variant


class _Candidate(NamedTuple):
    base: int  #: place among the conventions
    changes: tuple[_Way, ...]
    recipe: Recipe

    @property
    def mistakes(self) -> tuple[int, ...]:
        return tuple([i for i, _, _ in self.changes])

    @property
    def size(self) -> int:
        """How much is assumed; a fit has more free numbers than two mistakes."""
        return len(self.changes) + 2 * self.recipe.source.startswith("fit")

    @property
    def order(self) -> tuple[Any, ...]:
        """The simplest first, then the commonest, then those of the parameters' convention."""
        return self.size, self.mistakes, self.base

    def and_also(self, way: _Way) -> _Candidate:
        changes = tuple(sorted([*self.changes, way]))
        return _Candidate(self.base, changes, self.recipe._replace(**{way[1]: way[2]}))


class _Group(NamedTuple):
    """Candidates with the same codes, the simplest first."""

    members: list[_Candidate]
    matched: int
    left: Array  #: positions of the first codes that they do not give, in C order

    @property
    def order(self) -> tuple[Any, ...]:
        return -self.matched, self.members[0].order


@ieee
def ranked(x: Array, q: Array, params: Params) -> Diagnosis:
    """`diagnose` of arrays that were checked."""
    scalar = x.ndim == 0
    if scalar:
        x, q = x.reshape(1), q.reshape(1)
    problem = Problem(x, q, params)
    conventions = _recipes.bases(params)
    plain = [_Candidate(b, (), _recipes.base(name)) for b, name in enumerate(conventions)]
    if x.size <= _SAMPLE:
        at = np.arange(x.size)
        groups = _groups(problem, at, plain)
    else:
        groups = _of_conventions(problem, plain)
        at = _sample(problem, groups)
    problem.some_nan = bool(np.isnan(Points(problem, at).elements("same")).any())
    own = next(g for g in groups if any(c.base == 0 for c in g.members))
    problem.matched = own.matched
    if groups[0].matched == x.size:
        if own.matched < x.size:  # another convention: by which mistake with the meant one?
            singles = [plain[0], *_with_one_more(plain[:1], _ways(problem))]
            likely = _verified(problem, at, _groups(problem, at, singles))
            more = [c for g in likely if g.matched == x.size for c in g.members]
            groups[0].members.extend(more)
        groups = groups[:1]
    else:
        groups = _best(problem, at, plain)
        missed, fit = groups[0].left, groups[0].members[0].recipe.source.startswith("fit")
        if at.size < x.size and missed.size and not fit and not np.isin(missed, at).any():
            # what the sample did not show
            groups = _best(problem, np.union1d(at, missed), plain)
    found = _diagnosis(problem, conventions, groups, x.size - own.matched, scalar)
    best = groups[0]
    if best.matched == x.size and best.members[0].size < 2 and not _is_foreign(best):
        return found
    return _of_a_tool(problem, at, found, best, x.size - own.matched, scalar) or found


def _is_foreign(group: _Group) -> bool:
    """Whether it is parameters of one convention in another's arithmetic."""
    first = group.members[0]
    return first.base > 0 and first.recipe.source.startswith("rule")


def _of_a_tool(
    problem: Problem, at: Array, found: Diagnosis, group: _Group, differ: int, scalar: bool
) -> Diagnosis | None:
    """The codes of a convention with the parameters that it has for these data, if that explains
    more than what was `found`, or as much by less."""
    points = Points(problem, at)
    values, size = points.elements("same"), problem.x.size
    if problem.q.shape != problem.x.shape or np.unique(points.q).size < _KINDS:
        return None
    tried = []
    for call, x, params in _fitted.of_tools(problem):
        some = values if x is problem.x else values.astype(x.dtype)
        numbers = Source(*params._arrays, params.axis).at(np.unravel_index(at, x.shape))
        count = int(np.count_nonzero(params._codes(some, *numbers) == points.q))
        if count >= _ENOUGH * at.size:
            tried.append((-count, call, x, params))
    verified = []
    for _, call, x, params in sorted(tried, key=lambda each: each[0])[:_LIKELY]:
        other = Problem(x, problem.q, params)
        plain = _Candidate(0, (), _recipes.base(params.convention))
        verified += [(_of_conventions(other, [plain])[0], call, other)]
        if verified[-1][0].matched == size:
            break
    if not verified:
        return None
    best, call, other = max(verified, key=lambda each: each[0].matched)
    given, params = problem.params, other.params
    if best.matched < group.matched:
        return None
    if best.matched == group.matched:
        pair = group.members[0].size > 1
        if not pair and not _is_foreign(group):
            return None
        if pair and params.convention in BY_SPAN and params.axis is None:  # people write it, too
            note = f"The same codes on these data: `{params.convention}`, with {call}."
            return replace(found, notes=(*found.notes, note))
    left = _diagnosis(other, _recipes.bases(params), [best], 0, scalar)
    key, fix = "other_parameters", f"params = {call}"
    if params.convention in BY_SPAN and params.axis in (None, other.x.ndim - 1):
        fix += f"  # or those of {_quantizer(params)}"
    explanation = replace(
        left.best,
        mistakes=(key,),
        name=next(m.name for m in CATALOGUE if m.key == key),
        text=f"The convention `{params.convention}`, with the parameters {call}.",
        fix=fix,
    )
    notes = [*left.notes]
    if problem.q.dtype != given.dtype:
        notes.append(f"q is {problem.q.dtype}, and params.dtype is {given.dtype}.")
    said = f"those given say `{given.convention}`, of which {differ} differ"
    return replace(
        left,
        explanations=(explanation, *found.explanations),
        same=(),
        correct=False,
        paragraph=f"{left.paragraph}, with the parameters {call}; {said}",
        notes=tuple(notes),
    )


def _quantizer(params: Params) -> str:
    """What makes such parameters."""
    dtype = (
        "" if (params.dtype == np.uint8) == (params.convention == "faiss") else str(params.dtype)
    )
    more = f", {dtype!r}" * bool(dtype) + ", uniform=True" * (params.axis is None)
    return f"EmbeddingQuantizer({params.convention!r}{more}).fit(x).params"


def _best(problem: Problem, at: Array, plain: list[_Candidate]) -> list[_Group]:
    """The best explanations, which all codes have verified."""
    groups = _believed(_search(problem, at, plain), problem.x.size)
    size = problem.x.size
    if at.size < size:
        if groups[0].matched < 0.05 * size:  # what is worth no look at all others
            groups = [groups[0]._replace(members=groups[0].members[:1])]
        found = _verified(problem, at, groups[:1])
        if found[0].matched < size:
            found += _verified(problem, at, groups[1:3])
        groups = _believed(found, size)
    return groups


def _believed(groups: list[_Group], size: int) -> list[_Group]:
    """The best first: those whose every mistake halves, at least, what is left without it."""
    best: list[_Group] = []
    others: list[_Group] = []
    for group in sorted(groups, key=lambda g: (g.members[0].size, g.order)):
        left, n = size - group.matched, group.members[0].size
        fewer = [size - g.matched for g in best if g.members[0].size < n]
        (best if not fewer or 2 * left <= min(fewer) else others).append(group)
    best.sort(key=lambda g: g.order)
    return [best[0], *sorted([*best[1:], *others], key=lambda g: g.order)]


def _search(problem: Problem, at: Array, plain: list[_Candidate]) -> list[_Group]:
    """Explanations, where no convention is one, estimated at the positions `at`: single mistakes,
    pairs, parameters by another rule, a third mistake, a fit; each where those before leave
    something."""
    size = problem.x.size
    ways = [way for way in _ways(problem) if CATALOGUE[way[0]].key != "other_parameters"]
    groups = _groups(problem, at, [*plain, *_with_one_more(plain, ways)], plain)
    missed = groups[0].left
    kinds = np.unique(Points(problem, at).q).size
    if groups[0].matched == size or kinds < _KINDS:
        return groups
    few = at
    if at.size > _FEW:
        rng, n = np.random.default_rng(1), _FEW // 2
        some = rng.choice(at, n, replace=False)
        few = np.union1d(some, rng.choice(missed, min(n, missed.size), replace=False))
    # of conventions that differ in ties alone, one is enough to see what is likely
    forms = [*{p.recipe.form: p for p in reversed(plain)}.values()]

    def depends(candidate: _Candidate) -> bool:
        """Whether it matters when the zero point is added: where codes are not the nearest."""
        return problem.has_offset or candidate.recipe.rounding not in ("even", "away")

    def tried(*candidates: Iterable[_Candidate], least: float = 0.0) -> list[_Group]:
        """The groups so far, and the best of more candidates that explain enough."""
        some = (c for c in itertools.chain(*candidates) if c.base == 0 or depends(c))
        best = _groups(problem, few, some, forms, 12)
        likely = {c.changes: c for g in best for c in g.members[:16]}
        found = [_on(p, changes) for p in plain for changes in likely]
        more = _groups(problem, at, found, plain)
        more = [g for g in more if g.members[0].changes and g.matched >= least * size]
        return sorted([*groups, *more], key=lambda g: g.order)

    one = [*_with_one_more(forms, ways)]
    cast = [c for c in one if c.recipe.rounding == "trunc"]  # and wrapped: what .astype does
    cast = [*_with_one_more(cast, [way for way in ways if way[2] in ("wrapped", "unclipped")])]
    groups = tried(_with_one_more(one, ways), _with_one_more(cast, ways))
    pairs = [c for g in groups for c in g.members[:4] if len(c.changes) == 2][:8]
    usual = [c for c in one if CATALOGUE[c.mistakes[0]].key in _WITH_RULES]
    for sources in (_fitted.rules, None, _fitted.fit, _fitted.fit_channels):
        enough = groups[0].matched >= _ENOUGH * size
        if groups[0].matched == size or (enough and sources is _fitted.fit_channels):
            break
        if sources is None:
            groups = tried(_with_one_more(pairs, ways))
            continue
        found = sources(problem, at)
        problem.sources |= found
        others = [way for way in _ways(problem) if way[2] in found]
        more = usual if sources is _fitted.rules else one
        groups = tried(_with_one_more([*forms, *more], others), least=_ENOUGH)
        ways = [*ways, *others]
    return groups


def _ways(problem: Problem) -> list[_Way]:
    """The mistakes that may be here."""
    return [
        (i, field, variant)
        for i, mistake in enumerate(CATALOGUE)
        for field, way in mistake.ways
        for variant in problem.variants(field, way)
    ]


def _with_one_more(candidates: Iterable[_Candidate], ways: list[_Way]) -> Iterator[_Candidate]:
    """Each candidate with each of some mistakes, of another stage than those that it has."""
    seen = set()
    for candidate in candidates:
        fields, mistakes = {way[1] for way in candidate.changes}, candidate.mistakes
        for way in ways:
            i, field, variant = way
            if field in fields or i in mistakes or getattr(candidate.recipe, field) == variant:
                continue
            found = candidate.and_also(way)
            key = found.base, found.changes
            if key not in seen:
                seen.add(key)
                yield found


def _on(plain: _Candidate, changes: tuple[_Way, ...]) -> _Candidate:
    """The same mistakes of another convention."""
    recipe = plain.recipe._replace(**{field: variant for _, field, variant in changes})
    return _Candidate(plain.base, changes, recipe)


def _groups(
    problem: Problem,
    at: Array,
    candidates: Iterable[_Candidate],
    plain: Iterable[_Candidate] = (),
    most: int = 6,
) -> list[_Group]:
    """The best `most` groups of candidates, by what they explain at some positions of the codes.

    Mistakes that make no difference there are left out.  What a group explains of all codes is
    estimated: by its shares of those that the parameters explain, and of the others, whose numbers
    are known.
    """
    points = Points(problem, at)
    evaluation = Evaluation(problem, points)
    own = evaluation.matches(evaluation.codes(_recipes.base(problem.params.convention)))
    size, fine = problem.x.size, problem.matched
    inside = int(np.count_nonzero(own))

    def estimate(fits: Array) -> int:
        found = int(np.count_nonzero(fits))
        if at.size == size or found == at.size:
            return found * size // max(at.size, 1)
        both = int(np.count_nonzero(fits & own))
        of_own = both / inside * fine if inside else 0
        others = (found - both) / (at.size - inside) * (size - fine) if inside < at.size else 0
        return min(size - 1, int(of_own + others))

    counts, as_it_is = [], {}
    for candidate in itertools.chain(plain, candidates):
        codes = evaluation.codes(candidate.recipe)
        matched = estimate(evaluation.matches(codes))
        if not candidate.changes:
            as_it_is[candidate.base] = matched, codes
        elif candidate.base in as_it_is:
            usual = as_it_is[candidate.base]
            if matched == usual[0] and np.array_equal(codes, usual[1], equal_nan=True):
                continue
        counts.append((-matched, candidate.order, candidate))
    counts.sort()
    found: dict[bytes, _Group] = {}
    for matched, _, candidate in counts:
        codes = evaluation.codes(candidate.recipe)
        key = (codes.astype(np.float64) + 0.0).tobytes()
        if key in found:
            found[key].members.append(candidate)
        elif len(found) < most:
            found[key] = _Group([candidate], -matched, at[~evaluation.matches(codes)])
        else:
            break
    return [*found.values()]


def _verified(problem: Problem, at: Array, groups: list[_Group]) -> list[_Group]:
    """The same groups with what they explain of all codes, the best first."""
    if at.size == problem.x.size or not groups:
        return groups
    # of the first group, which others are listed with it, other mistakes before other conventions;
    # one of each of the others
    chosen = [g.members[:1] for g in groups]
    unlike = {c.mistakes: c for c in reversed(groups[0].members)}
    chosen[0] = [*dict.fromkeys([*reversed(unlike.values()), *groups[0].members])][:5]
    flat = [(n, c) for n, members in enumerate(chosen) for c in members]
    matched, equal = [0] * len(flat), [True] * len(flat)
    left: list[list[Array]] = [[] for _ in flat]
    for layout in {c.recipe.layout for _, c in flat}:
        x, q = problem.views[layout].arrays(problem.x, problem.q)
        done = 0
        for tile in chunks(x.shape, _TILE):
            elements = Tile(problem, layout, x, q, tile)
            evaluation = Evaluation(problem, elements)
            first: dict[int, Array] = {}
            for k, (n, candidate) in enumerate(flat):
                if candidate.recipe.layout != layout:
                    continue
                codes = evaluation.codes(candidate.recipe)
                fits = evaluation.matches(codes)
                good = int(np.count_nonzero(fits))
                matched[k] += good
                if good < fits.size and sum(map(len, left[k])) < _FEW:
                    left[k].append(done + np.flatnonzero(~fits)[:_FEW])
                if n in first:
                    equal[k] &= np.array_equal(codes, first[n], equal_nan=True)
                first.setdefault(n, codes)
            done += elements.q.size
    found: list[tuple[int, _Group]] = []
    for k, (n, candidate) in enumerate(flat):
        places = np.concatenate(left[k]) if left[k] else at[:0]
        if found and found[-1][0] == n and equal[k]:
            found[-1][1].members.append(candidate)
        else:
            found.append((n, _Group([candidate], matched[k], places)))
    return sorted((g for _, g in found), key=lambda g: g.order)


def _of_conventions(problem: Problem, plain: list[_Candidate]) -> list[_Group]:
    """What the conventions explain of all codes, by the kernels where they can; the best first."""
    x, q = problem.x, problem.q.reshape(problem.x.shape)
    found = []
    for candidate in plain:
        params = _of_base(problem.params, candidate)
        if params is None:
            found += _verified(problem, np.arange(0), [_Group([candidate], 0, np.arange(0))])
            continue
        codes = quantize(x, params)
        matched, left, done = 0, [np.arange(0)], 0
        for tile in chunks(x.shape):
            differs = np.asarray(codes[tile] != q[tile]).ravel()
            count = int(np.count_nonzero(differs))
            matched += differs.size - count
            if count and sum(map(len, left)) < x.size // 64:
                left.append(done + np.flatnonzero(differs))
            done += differs.size
        found.append(_Group([candidate], matched, np.concatenate(left)))
    # those that give all codes are one group
    found.sort(key=lambda g: g.order)
    best = found[0]
    equal = [g.members[0] for g in found if g.matched == x.size]
    return [best._replace(members=equal or best.members), *found[1:]]


def _of_base(params: Params, candidate: _Candidate) -> Params | None:
    """`params` of another convention, where the kernels can compute it."""
    if candidate.base == 0:
        return params
    if isinstance(params, QuantParams) and params.include_zero:
        try:
            return params.replace(convention=_recipes.bases(params)[candidate.base])
        except ValueError:  # of a scale whose reciprocal is Inf
            return None
    return None


def _sampled(size: int) -> Array:
    """Random positions, and both ends; all of few."""
    if size <= _SAMPLE:
        return np.arange(size)
    some = np.random.default_rng(0).integers(0, size, _SAMPLE)
    return np.unique(np.concatenate([some, np.arange(64), size - 1 - np.arange(64)]))


def _sample(problem: Problem, groups: list[_Group]) -> Array:
    """The same, and some of the positions of codes that each convention misses."""
    rng = np.random.default_rng(0)
    some = [_sampled(problem.x.size)]
    some += [rng.choice(g.left, min(g.left.size, _SAMPLE // 4), replace=False) for g in groups]
    return np.unique(np.concatenate(some))


# ---------------------------------------------------------------------------------------------
# The result


def _diagnosis(
    problem: Problem, conventions: list[str], groups: list[_Group], differ: int, scalar: bool
) -> Diagnosis:
    """`differ` codes are not those of the parameters."""
    size, best = problem.x.size, groups[0]
    same: tuple[str, ...] = ()
    if best.matched == size:
        same = tuple(conventions[c.base] for c in best.members if not c.changes)
    explanations = tuple(_explanation(problem, conventions, g) for g in groups)
    correct = problem.params.convention in same and problem.q.shape == problem.x.shape
    notes = [*_notes(problem, same, correct)]
    remaining = _remaining(problem, best, scalar) if size else ()
    if remaining:
        examples = (
            f"{[*r.index]}: x = {r.value:.9g}, code {r.code:g}, expected {r.expected:g}"
            for r in remaining[:3]
        )
        notes = [f"{_where(problem, best)}; for example {'; '.join(examples)}.", *notes]
    return Diagnosis(
        explanations=explanations,
        size=size,
        same=same,
        remaining=remaining,
        correct=correct,
        paragraph=_paragraph(problem, best, explanations[0], same, differ),
        notes=tuple(notes),
    )


def _words(problem: Problem, text: str) -> str:
    if not problem.has_offset:
        return text
    return text.replace("a zero point", "an offset").replace("zero point", "offset")


def _named(problem: Problem, candidate: _Candidate) -> str:
    names = [_words(problem, CATALOGUE[i].name) for i in candidate.mistakes]
    return " and ".join(names) or "no mistake"


def _paragraph(
    problem: Problem, group: _Group, best: Explanation, same: tuple[str, ...], differ: int
) -> str:
    size, params, convention = problem.x.size, problem.params, f"`{best.convention}`"
    if not size:
        return "no codes: the array is empty, and nothing can be told apart"
    names = [
        *dict.fromkeys(_named(problem, c) for c in group.members if c.size == group.members[0].size)
    ]
    listed = ", or ".join(names[:4]) + f", or {len(names) - 4} more" * (len(names) > 4)
    if same:
        text = f"equal to {convention} in all {size} codes"
        if params.convention in same:
            return text
        others = dict.fromkeys(_named(problem, c) for c in group.members if c.changes)
        how = f" ({', or '.join([*others][:3])})" if others else ""
        return f"{text}; the parameters say `{params.convention}`, of which {differ} differ{how}"
    shown = _of(best.matched, size)
    q = problem.q
    values, counts = np.unique(Points(problem, _sampled(size)).q, return_counts=True)
    kinds, most = values.size, values[counts.argmax()]
    if bool((q == q.flat[0]).all()) or (kinds < _KINDS and size > 16):
        alone = (
            f"all {size} codes are {q.flat[0]}" if kinds == 1 else f"only {kinds} different codes"
        )
        alone += ", which tells little: "
        if best.share < 0.5:
            return f"{alone}no known mistake gives them"
        return f"{alone}{listed} would give {'them' if best.matched == size else shown}"
    alike = int(np.count_nonzero(q == most))
    if size > 16 and alike >= 0.95 * size and 2 * (best.matched - alike) < size - alike:
        # whatever gives this one code explains nearly all
        text = f"{_of(alike, size)} are {most}, which tells little, and no known mistake gives "
        text += "the others"
        ends = ": were the data far too large or too small for these parameters?"
        return text + ends * (most in (params.qmin, params.qmax))
    if best.share < 0.5:
        nearest = f"{best.name} (of {convention})" if best.mistakes else convention
        return f"no known mistake explains these codes; the nearest, {nearest}, explains {shown}"
    if not best.mistakes:
        return f"nearest to {convention}, which explains {shown}"
    if len(names) > 1:
        listed += " (the same codes on these data)"
    return f"{listed}, of {convention}: this explains {shown}. {best.text}"


def _explanation(problem: Problem, conventions: list[str], group: _Group) -> Explanation:
    first = group.members[0]
    size = problem.x.size
    convention = conventions[first.base]
    also: dict[str, list[str]] = {}
    for other in group.members[1:]:
        if other.size == first.size or not first.changes:
            also.setdefault(_named(problem, other), []).append(f"`{conventions[other.base]}`")
    name = _named(problem, first)
    also[name] = [c for c in also.get(name, []) if c != f"`{convention}`"]
    listed = [f"{name} of {', '.join(dict.fromkeys(of))}" for name, of in also.items() if of]
    sentences, lines, hints = [], [], []
    for i, field, variant in first.changes:
        mistake, detail = CATALOGUE[i], variant.partition(": ")[2]
        line = mistake.fix if (field, variant) == mistake.ways[0] else _FIX
        if variant == "viewed" and problem.q.itemsize > 1:
            line = "q = q.astype(params.dtype)"
        if variant.startswith("rule: zp."):
            line = f"params = {detail}"
        elif mistake.key == "other_parameters":
            line = _replaced(problem, problem.sources[variant]) or line
        if variant.startswith("fit: "):
            detail += _guess(problem, first)
        sentence = _words(problem, mistake.text) + f" ({detail})" * bool(detail)
        begins = sentence[0] if sentence.startswith("x ") else sentence[0].upper()
        sentences.append(f"{begins}{sentence[1:]}.")
        lines.append(line)
        hints += [_words(problem, mistake.hint)] * bool(mistake.hint)
    if not first.changes:
        sentences = [f"The convention `{convention}`."]
        lines = [_FIX if first.base == 0 else f"params = params.replace(convention={convention!r})"]
    # the line that fixes a single mistake does not fix two
    line = lines[0] if len({*lines}) == 1 else _FIX
    return Explanation(
        mistakes=tuple(CATALOGUE[i].key for i in first.mistakes),
        convention=convention,
        matched=group.matched,
        share=group.matched / size if size else 1.0,
        also=tuple(listed),
        name=name,
        text=" ".join(sentences),
        fix=f"{line}  # {'; '.join(dict.fromkeys(hints))}" if hints else line,
    )


def _replaced(problem: Problem, source: Source) -> str:
    """The line that puts the numbers of a source into the parameters, if they take them."""
    params = problem.params
    if source.axis is not None or (source.second.dtype.kind == "f" and not problem.has_offset):
        return ""
    pairs = zip(params._names, source[:2], strict=False)
    numbers = ", ".join(f"{name}={value[()]!s}" for name, value in pairs)
    alone = "" if params.axis is None else ", axis=None, block_size=None"
    return f"params = params.replace({numbers}{alone})"


def _where(problem: Problem, group: _Group) -> str:
    """How many codes the explanation leaves, in which part of the array, and how far they are."""
    candidate = group.members[0]
    layout = candidate.recipe.layout
    x, q = problem.views[layout].arrays(problem.x, problem.q)
    wrong = np.empty(x.shape, bool)
    far, kinds = 0.0, widen(np.empty(0, q.dtype))
    for tile in chunks(x.shape, _TILE):
        evaluation = Evaluation(problem, Tile(problem, layout, x, q, tile))
        codes = evaluation.codes(candidate.recipe)
        wrong[tile] = ~evaluation.matches(codes)
        with np.errstate(all="ignore"):
            off = np.abs(widen(q[tile]) - codes.astype(np.float64))
            off = np.where(np.isnan(off), np.inf, off)
        far = max(far, float(np.max(off, where=wrong[tile], initial=0)))
        if kinds.size < 3:
            kinds = np.union1d(kinds, widen(q[tile][wrong[tile]]))
    wrong = wrong.reshape(problem.q.shape)
    count = int(np.count_nonzero(wrong))
    text = f"Left: {count} code{'s' * (count > 1)}"
    for axis, n in enumerate(wrong.shape):
        some = np.asarray(wrong.any(axis=tuple(k for k in range(wrong.ndim) if k != axis)))
        places, first = int(np.count_nonzero(some)), int(np.argmax(some))
        last = n - 1 - int(np.argmax(some[::-1]))
        if count < 4 or places > 3 * n // 4:
            continue
        if places == 1:
            text += f", all at index {first} of axis {axis}"
        elif places <= 5 and last - first >= places:
            text += f", all at {', '.join(map(str, np.flatnonzero(some)))} of axis {axis}"
        elif last - first < 3 * n // 4:
            text += f", all at {first} to {last} of axis {axis}"
    if count >= 8 and kinds.size < 3:
        text += f", all with code {' or '.join(map(str, kinds))}"
    if far <= 1:
        text += ", each within 1 of what is expected"
    return text


def _guess(problem: Problem, candidate: _Candidate) -> str:
    """Said of a fit to so few codes that other numbers would fit as well."""
    source = problem.sources[candidate.recipe.source]
    points = Points(problem, _sampled(problem.x.size))
    each = problem.x.size // source.first.size
    if each >= 100 and np.unique(points.q).size >= 20:
        return ""
    return ": a guess, as so few codes fit other numbers too"


def _remaining(problem: Problem, group: _Group, scalar: bool) -> tuple[Remaining, ...]:
    points = Points(problem, group.left[:_SHOWN])
    recipe = group.members[0].recipe
    codes = Evaluation(problem, points).codes(recipe)
    values = widen(points.elements(recipe.layout))
    places = zip(*np.unravel_index(points.at, problem.q.shape), strict=True)
    return tuple(
        Remaining(
            () if scalar else tuple(map(int, place)), float(v), widen(code).item(), float(c) + 0.0
        )
        for place, v, code, c in zip(places, values, points.q, codes, strict=True)
    )


def _notes(problem: Problem, same: tuple[str, ...], correct: bool) -> Iterator[str]:
    q, params = problem.q, problem.params
    others = [name for name in same if name != (params.convention if correct else same[0])]
    if others:
        names = ", ".join(f"`{name}`" for name in others)
        yield f"Not told apart by these data: the codes of {names} are the same."
    if q.shape != problem.x.shape:
        yield f"q has shape {q.shape}, and x has shape {problem.x.shape}."
    if q.dtype != params.dtype:
        yield f"q is {q.dtype}, and params.dtype is {params.dtype}."
    if same and q.size and bool((q == q.flat[0]).all()):
        yield f"All codes are {q.flat[0]}, which tells little."
    elif 0 < q.size < 16:
        yield "So few codes tell little."
