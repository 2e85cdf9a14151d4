"""Which probe of other languages serves a language best, with how many of its examples, and whose threshold?

For every target language, group of source languages, budget and draw:

- `direction`: v_HRL's construction on the group (first singular vector of its unit mean differences);
- `target`: the difference in means of the target's examples alone;
- `subspace`: logistic regression on the first r singular vectors of the group's mean differences;
- `bank`: the same on all mean differences of the group, one feature per language;
- `pca`: the same on the first r principal components of the group's train rows, found without labels;
- `full`: ridge regression on whole activations (high-resource sources);
- `random`: a random direction per draw;
- `random_subspace`: logistic regression on r random directions, others for each draw (high-resource sources).

Logistic regressions are fitted on the group's train rows and the b + b examples, budget 0 on the group's rows alone. A
target's rows are never among its sources. Where thresholds come from: `calibrated`. OMNIGuard is compared with these in
`omniguard`, which needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polygate.decision.probes import rows as probe_rows
from polygate.decision.probes.calibrated import Scored, cells
from polygate.decision.probes.estimates import Collector, Probe
from polygate.decision.probes.features import Differences, Group, Wide
from polygate.decision.probes.full_space import Source, Standard, adamw
from polygate.decision.probes.logistic import logistic
from polygate.decision.probes.parallel import single, spread
from polygate.decision.probes.rows import Language, Setup
from polygate.settings.types import Gate, Tier

GROUPS: Mapping[str, tuple[Tier, ...]] = {
    "high": ("high",),
    "mid": ("mid",),
    "low": ("low",),
    "high+mid": ("high", "mid"),
    "all": ("high", "mid", "low"),
}
"""Groups of source languages by their tiers; a target's own tier gives the others of it."""
_POWER_ITERATIONS = 5


class Comparison:
    """All probes of one model at one layer, for `languages` whose train rows are in memory."""

    def __init__(self, languages: Sequence[Language], gate: Gate, pivot: str, seed: int) -> None:
        self.languages = {language.name: language for language in languages}
        self.targets = [language for language in languages if language.tested]
        self.gate, self.seed = gate, seed
        self.differences = Differences(languages, pivot)

    def run(self) -> tuple[pa.Table, pa.Table]:
        """Estimates by fit and their means (`estimates.DRAWS`, `estimates.MEANS`)."""
        collected = Collector()
        with single():
            for probe, scored in self.probes():
                collected.add(probe, cells(scored, self.gate.objective))
        return collected.tables()

    def probes(self) -> Iterator[tuple[Probe, list[Scored]]]:
        """Every probe with its scores for all targets that can have it."""
        # First, as it needs the most memory: what the others find is kept.
        if groups := self._pairs("high"):
            yield Probe("full", "high"), self._full(groups)
            for rank in self.gate.ranks:
                yield (
                    Probe("random_subspace", "high", rank),
                    spread(self._random_subspace, [(*pair, rank) for pair in groups]),
                )
        yield Probe("target"), [self._dense(target, _examples_direction) for target in self.targets]
        yield Probe("random"), [self._dense(target, self._random_directions) for target in self.targets]
        for name in GROUPS:
            groups = self._pairs(name)
            if not groups:
                continue
            subspaces = spread(self.differences.subspace, groups)
            yield (
                Probe("direction", name),
                [self._direction(*pair, found) for pair, found in zip(groups, subspaces, strict=True)],
            )
            yield (
                Probe("bank", name),
                spread(self._logistic, [(*pair, self.differences.bank(*pair)) for pair in groups]),
            )
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
        return logistic(target, group, features, self.gate, self.seed)

    def _random_subspace(self, target: Language, group: Group, rank: int) -> Scored:
        """As `subspace`, on `rank` directions drawn for each draw, budget 0 included; the same for every target."""
        parts = []
        for draw in sorted({draw for _, draw in target.setups}):
            axes = np.random.default_rng([self.seed, rank, draw]).normal(size=(target.train.shape[1], rank))
            features = self._projected(target, group, np.linalg.qr(axes)[0].astype(np.float32))
            own = [setup for setup in target.examples if setup[1] == draw]
            parts.append(logistic(target, group, features, self.gate, self.seed, [(0, draw), *own]))
        scores: list[Wide] = [
            np.concatenate([getattr(part, name) for part in parts]) for name in ("source", "own", "test")
        ]
        return Scored(target, group, [setup for part in parts for setup in part.setups], *scores)

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
