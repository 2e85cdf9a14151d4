"""Which probe of other languages serves a language best, with how many of its examples, and whose threshold?

For every target language, group of source languages, budget and draw:

- `direction`: v_HRL's construction on the group (first singular vector of its unit mean differences);
- `target`: the difference in means of the target's examples alone;
- `subspace`: logistic regression on the first r singular vectors of the group's mean differences;
- `bank`: the same on all mean differences of the group, one feature per language;
- `pca`: the same on the first r principal components of the group's train rows, found without labels;
- `full`: ridge regression on whole activations (high-resource sources);
- `random`: a random direction per draw.

Logistic regressions are fitted on the group's train rows and the b + b examples, budget 0 on the group's rows alone. A
target's rows are never among its sources. The threshold comes from

- `source`: the group's train rows (macro objective over its languages),
- `examples`: the target's 2b examples,
- `global`: one threshold for all languages of the target's tier, from the examples of all of them (macro objective),
- `oracle`: the target's test prompts: not a rule, but what the best threshold would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polygate import kernels
from polygate.decision.fitting import initial_weights
from polygate.decision.probes import rows as probe_rows
from polygate.decision.probes import scoring
from polygate.decision.probes.estimates import Cell, Collector, Probe
from polygate.decision.probes.full_space import Source, Standard, adamw
from polygate.decision.probes.parallel import single, spread
from polygate.decision.probes.rows import Language, Setup
from polygate.settings.types import Gate, Tier

GROUPS: Mapping[str, tuple[Tier, ...]] = {
    "high": ("high",),
    "mid": ("mid",),
    "low": ("low",),
    "high+mid": ("high", "mid"),
}
"""Groups of source languages by their tiers."""
_POWER_ITERATIONS = 5

Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The source languages of one target: `names` among all languages, and their train rows."""

    names: tuple[str, ...]
    harmful: NDArray[np.bool_]
    languages: NDArray[np.int64]

    @classmethod
    def of(cls, languages: Sequence[Language]) -> Group:
        """Of the languages given."""
        return cls(
            tuple(language.name for language in languages),
            np.concatenate([language.harmful for language in languages]),
            np.repeat(np.arange(len(languages)), [len(language.train) for language in languages]),
        )


@dataclass(frozen=True)
class Scored:
    """Scores of one probe for one target: rows are its `setups`, or a single row that stands for all of them.

    `source` float64 [f, n] of the group's train rows (None without a group), `own` float64 [f, n_own] of the target's
    train rows, `test` float64 [f, m].
    """

    target: Language
    group: Group | None
    setups: list[Setup]
    source: Wide | None
    own: Wide
    test: Wide


@dataclass(frozen=True)
class _Coordinates:
    """Inner products of rows with the mean difference of every language, float64: `train` [n, s], `test` [m, s]."""

    train: Wide
    test: Wide


class Comparison:
    """All probes of one model at one layer, for `languages` whose train rows are in memory."""

    def __init__(self, languages: Sequence[Language], gate: Gate, pivot: str, seed: int) -> None:
        self.languages = {language.name: language for language in languages}
        self.targets = [language for language in languages if language.tested]
        self.gate, self.pivot, self.seed = gate, pivot, seed
        differences = np.stack([language.difference() for language in languages])
        self.order = {name: column for column, name in enumerate(self.languages)}
        with single():
            self.inner = differences @ differences.T
            self.along = {
                language.name: _Coordinates(
                    language.train.astype(np.float64) @ differences.T,
                    language.test().astype(np.float64) @ differences.T,
                )
                for language in languages
            }

    def run(self) -> tuple[pa.Table, pa.Table]:
        """Estimates by fit and their means (`estimates.DRAWS`, `estimates.MEANS`)."""
        collected = Collector()
        with single():
            for probe, scored in self.probes():
                collected.add(probe, self.cells(scored))
        return collected.tables()

    def probes(self) -> Iterator[tuple[Probe, list[Scored]]]:
        """Every probe with its scores for all targets that can have it."""
        # First, as it needs the most memory: what the others find is kept.
        if groups := self._pairs("high"):
            yield Probe("full", "high"), self._full(groups)
        yield Probe("target"), [self._dense(target, _examples_direction) for target in self.targets]
        yield Probe("random"), [self._dense(target, self._random_directions) for target in self.targets]
        for name in GROUPS:
            groups = self._pairs(name)
            if not groups:
                continue
            subspaces = spread(self._subspace, groups)
            yield (
                Probe("direction", name),
                [self._direction(*pair, found) for pair, found in zip(groups, subspaces, strict=True)],
            )
            yield Probe("bank", name), spread(self._logistic, [(*pair, self._bank(*pair)) for pair in groups])
            axes = self._components({group.names for _, group in groups})
            components = spread(self._projected, [(*pair, axes[pair[1].names]) for pair in groups])
            for family, features in (("subspace", subspaces), ("pca", components)):
                for rank in self.gate.ranks:
                    able = [
                        (*pair, [part[:, :rank] for part in found])
                        for pair, found in zip(groups, features, strict=True)
                        if found[0].shape[1] >= rank
                    ]
                    if able:
                        yield Probe(family, name, rank), spread(self._logistic, able)

    def _pairs(self, name: str) -> list[tuple[Language, Group]]:
        """Every target that has sources in a group, with them."""
        return [(target, group) for target in self.targets if (group := self.group(name, target)) is not None]

    def group(self, name: str, target: Language) -> Group | None:
        """The sources of a target: the group's languages without the target; None when there are none."""
        chosen = [
            language
            for language in self.languages.values()
            if language.tier in GROUPS[name] and language.name != target.name
        ]
        tiers = {language.tier for language in chosen}
        return Group.of(chosen) if chosen and tiers == set(GROUPS[name]) else None

    # Features: [n, r] of the group's train rows, the target's train rows and its test rows.

    def _columns(self, group: Group) -> list[int]:
        return [self.order[name] for name in group.names]

    def _bank(self, target: Language, group: Group) -> tuple[Wide, Wide, Wide]:
        columns = self._columns(group)
        source = np.concatenate([self.along[name].train[:, columns] for name in group.names])
        own = self.along[target.name]
        return source, own.train[:, columns], own.test[:, columns]

    def _subspace(self, target: Language, group: Group) -> tuple[Wide, Wide, Wide]:
        """Coordinates on right singular vectors V of the stack D of differences, from those on D itself.

        V = Dᵀ·U·S⁻¹, and U, S² are the eigenvectors and eigenvalues of D·Dᵀ.
        """
        columns = self._columns(group)
        inner = self.inner[np.ix_(columns, columns)]
        squares, vectors = np.linalg.eigh(inner)
        kept = [i for i in range(len(squares) - 1, -1, -1) if squares[i] > 1e-10 * squares[-1]]
        mixing = vectors[:, kept] / np.sqrt(squares[kept])
        towards = self.pivot if self.pivot in group.names else group.names[0]
        # Signs as in `subspace.orient`: positive along the pivot's difference.
        along = inner[group.names.index(towards)] @ mixing
        mixing *= np.where(along < 0, -1.0, 1.0)
        source, own, test = self._bank(target, group)
        return source @ mixing, own @ mixing, test @ mixing

    def _components(self, sources: set[tuple[str, ...]]) -> dict[tuple[str, ...], NDArray[np.float32]]:
        """Principal components [d, r] of each set of source languages."""
        names = sorted(sources)
        found = spread(self._axes, [(own,) for own in names])
        return {own: np.ascontiguousarray(axes.T) for own, axes in zip(names, found, strict=True)}

    def _axes(self, names: Sequence[str]) -> NDArray[np.float32]:
        return principal_components(self._rows(names), self.gate.ranks[-1], self.seed)

    def _rows(self, names: Sequence[str]) -> NDArray[np.float32]:
        return np.concatenate([self.languages[name].train for name in names])

    def _projected(self, target: Language, group: Group, axes: NDArray[np.float32]) -> tuple[Wide, Wide, Wide]:
        source = np.concatenate([self.languages[name].train @ axes for name in group.names])
        return source.astype(np.float64), (target.train @ axes).astype(np.float64), _test_scores(target, axes)

    # Scores.

    def _direction(self, target: Language, group: Group, subspace: Sequence[Wide]) -> Scored:
        source, own, test = (part[:, :1].T for part in subspace)
        return Scored(target, group, target.setups, source, own, test)

    def _logistic(self, target: Language, group: Group, features: Sequence[Wide]) -> Scored:
        """Logistic regression on features of few dimensions, every budget and draw in one batch."""
        source, own, test = features
        counts = np.array([2 * budget for budget, _ in target.setups], np.int64)
        extra = np.zeros((len(counts), counts.max(), source.shape[1]))
        labels = np.zeros(extra.shape[:2], bool)
        for fit, setup in enumerate(target.setups):
            if counts[fit]:
                extra[fit, : counts[fit]] = own[target.examples[setup]]
                labels[fit, : counts[fit]] = target.labels(setup[0])
        fits = kernels.fit_logistic(
            np.ascontiguousarray(source),
            group.harmful,
            extra,
            labels,
            extra_rows=counts,
            solver=self.gate.solver,
            initial=initial_weights(self.gate.solver, source.shape[1], self.seed),
            threads=1,
        )
        slopes = fits.weights / fits.scale
        offsets = (fits.bias - (slopes * fits.mean).sum(axis=1))[:, None]
        scores: list[Wide] = [slopes @ part.T + offsets for part in (source, own, test)]
        return Scored(target, group, target.setups, *scores)

    def _dense(
        self,
        target: Language,
        directions: Callable[[Language], tuple[list[Setup], NDArray[np.float32]]],
    ) -> Scored:
        """Directions [d, f] that are learnt without sources."""
        setups, weights = directions(target)
        return Scored(
            target,
            None,
            setups,
            None,
            (target.train @ weights).astype(np.float64).T,
            _test_scores(target, weights).T,
        )

    def _random_directions(self, target: Language) -> tuple[list[Setup], NDArray[np.float32]]:
        draws = sorted({draw for _, draw in target.examples})
        width = target.train.shape[1]
        streams = {draw: np.random.default_rng([self.seed, draw]) for draw in draws}
        found = {draw: stream.normal(size=(width,)).astype(np.float32) for draw, stream in streams.items()}
        setups = list(target.examples)
        return setups, np.stack([found[draw] for _, draw in setups], axis=1)

    def _full(self, groups: Sequence[tuple[Language, Group]]) -> list[Scored]:
        """Ridge regression on whole activations.

        The targets that are no sources share one factorisation. That of a high-resource target, without its rows, is
        taken at the logits of the shared solution.
        """
        if self.gate.solver == "adamw":
            return spread(self._full_adamw, groups)
        names = [name for name, language in self.languages.items() if language.tier == "high"]
        everything = Group.of([self.languages[name] for name in names])
        shared = Source.of(self._rows(names), everything.harmful)
        near = {name: shared.logits[everything.languages == number] for number, name in enumerate(names)}

        def scored(target: Language, group: Group) -> Scored:
            start = np.concatenate([near[name] for name in group.names])
            same = list(group.names) == names
            source = shared if same else Source.of(self._rows(group.names), group.harmful, start)
            examples = [target.examples.get(setup, np.zeros(0, np.int64)) for setup in target.setups]
            found = source.fit(target.train, target.harmful, examples)
            weights, bias = found.weights.astype(np.float32), found.bias[:, None]
            own: Wide = (target.train @ weights).astype(np.float64).T + bias
            test: Wide = _test_scores(target, weights).T + bias
            return Scored(target, group, target.setups, found.logits.T.astype(np.float64), own, test)

        return spread(scored, groups)

    def _full_adamw(self, target: Language, group: Group) -> Scored:
        """The same by the paper's optimiser, a fit at a time: 80 epochs on features standardised on the fit's rows."""
        source = self._rows(group.names)
        weights, bias = [], []
        for setup in target.setups:
            own = target.examples.get(setup, np.zeros(0, np.int64))
            rows = np.concatenate([source, target.train[own]])
            standard = Standard.of(rows)
            scale = standard.scale.astype(np.float64) / np.sqrt(rows.shape[1])
            features = ((rows - standard.mean) / scale).astype(np.float32)
            labels = np.concatenate([group.harmful, target.harmful[own]])
            found, offset = adamw(features, labels, 80, self.seed)
            weights.append(found / scale)
            bias.append(offset - standard.mean.astype(np.float64) @ weights[-1])
        narrow = np.stack(weights, axis=1).astype(np.float32)
        scores: list[Wide] = [
            (rows @ narrow).astype(np.float64).T + np.array(bias)[:, None]
            for rows in (source, target.train, target.test())
        ]
        return Scored(target, group, target.setups, *scores)

    # Thresholds and estimates.

    def cells(self, scored: Sequence[Scored]) -> list[Cell]:
        """AUC, and F1 and balanced accuracy at each threshold, of a probe in all its languages."""
        shared = self._global_thresholds(scored)
        found = spread(self._cells_of, [(one, shared) for one in scored])
        return [cell for cells in found for cell in cells]

    def _cells_of(self, one: Scored, shared: Mapping[tuple[str, Setup], float]) -> list[Cell]:
        harmful = one.target.test_harmful
        area = scoring.auc(one.test, harmful)
        cells = [Cell(one.target, one.setups, "auc", area.repeated(len(one.setups)))]
        for origin, thresholds in self._thresholds(one, shared).items():
            kept = np.flatnonzero(~np.isnan(thresholds))
            setups = [one.setups[i] for i in kept]
            test = one.test if len(one.test) == 1 else one.test[kept]
            flagged = test > thresholds[kept, None]
            cells += [
                Cell(one.target, setups, metric, found, origin, thresholds[kept])
                for metric, found in scoring.decisions(flagged, harmful).items()
            ]
        return cells

    def _thresholds(self, one: Scored, shared: Mapping[tuple[str, Setup], float]) -> dict[str, Wide]:
        """Thresholds [setups] by where they come from; NaN where a setup has none."""
        count = len(one.setups)
        found: dict[str, Wide] = {}
        if one.source is not None and one.group is not None:
            found["source"] = self._sweep(one.source, one.group.harmful, one.group.languages)
        examples = np.full(count, np.nan)
        for budget, setups in _by_budget(one.setups).items():
            if budget:
                at = [one.setups.index(setup) for setup in setups]
                examples[at] = self._sweep(_example_scores(one, setups), one.target.labels(budget), None)
        found["examples"] = examples
        found["global"] = np.array([shared.get((one.target.tier, setup), np.nan) for setup in one.setups])
        found["oracle"] = self._sweep(one.test, one.target.test_harmful, None)
        return {
            origin: np.broadcast_to(values, (count,)) for origin, values in found.items() if not np.isnan(values).all()
        }

    def _global_thresholds(self, scored: Sequence[Scored]) -> dict[tuple[str, Setup], float]:
        """Thresholds by tier and setup, from the examples of every language of the tier that has the setup."""
        found: dict[tuple[str, Setup], float] = {}
        for tier in dict.fromkeys(one.target.tier for one in scored):
            members = [one for one in scored if one.target.tier == tier]
            budgets = {budget for one in members for budget, _ in one.setups if budget}
            for budget in sorted(budgets):
                having = [(one, setups) for one in members if (setups := _by_budget(one.setups).get(budget))]
                draws = min((setups for _, setups in having), key=len)
                scores = np.concatenate([_example_scores(one, draws) for one, _ in having], axis=1)
                labels = np.concatenate([one.target.labels(budget) for one, _ in having])
                groups = np.repeat(np.arange(len(having)), 2 * budget)
                found |= {
                    (tier, setup): float(threshold)
                    for setup, threshold in zip(draws, self._sweep(scores, labels, groups), strict=True)
                }
        return found

    def _sweep(self, scores: Wide, labels: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> Wide:
        found = kernels.sweep_threshold(np.ascontiguousarray(scores), labels, groups, self.gate.objective, threads=1)
        return np.asarray(found.threshold, np.float64)


def principal_components(rows: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """The first principal components of `rows` [n, d], float32 [≤ count, d], largest first. Centres `rows` in place.

    By a randomised singular value decomposition (Halko et al. 2011), its signs made deterministic by scikit-learn.
    """
    from sklearn.utils.extmath import randomized_svd

    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, _, axes = randomized_svd(
        rows,
        n_components=min(count, *rows.shape),
        n_iter=_POWER_ITERATIONS,
        power_iteration_normalizer="QR",
        random_state=seed,
    )
    found: NDArray[np.float32] = axes.astype(np.float32)
    return found


def _examples_direction(target: Language) -> tuple[list[Setup], NDArray[np.float32]]:
    """Mean differences of the examples, [d, setups]."""
    setups = list(target.examples)
    weights = np.stack([probe_rows.mean_difference_weights(target, setup) for setup in setups])
    return setups, np.ascontiguousarray((weights @ target.train).T)


def _test_scores(target: Language, weights: NDArray[np.float32]) -> Wide:
    scores: Wide = (target.test() @ weights).astype(np.float64)
    return scores


def _by_budget(setups: Sequence[Setup]) -> dict[int, list[Setup]]:
    found: dict[int, list[Setup]] = {}
    for setup in setups:
        found.setdefault(setup[0], []).append(setup)
    return found


def _example_scores(one: Scored, setups: Sequence[Setup]) -> Wide:
    """Scores of the examples of setups of one budget, float64 [setups, 2b]."""
    rows = np.stack([one.target.examples[setup] for setup in setups])
    if len(one.own) == 1:
        shared: Wide = one.own[0][rows]
        return shared
    at = [one.setups.index(setup) for setup in setups]
    found: Wide = np.take_along_axis(one.own[at], rows, axis=1)
    return found
