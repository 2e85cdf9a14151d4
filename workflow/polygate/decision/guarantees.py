"""Every rule of calibration on the same draws: what its threshold misses and flags falsely on test prompts.

A guarantee asks for scores that were fitted without the prompts they are calibrated on. Those of the gates won't do:
the examples are translations of prompts that the sources' directions, subspace and weights saw. So for each draw all of
these are fitted anew on the sources' train prompts without the drawn ones, in any language. Test prompts are never seen
by anything. What is left to assume is that train and test prompts of a class are exchangeable.

The controls go the same way, the surface baseline on eleven features instead of coordinates and, where there is a
sentence encoder, the semantic one on embeddings with its own ridge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polygate.controls import semantic
from polygate.controls.surface import surface_features
from polygate.decision import calibration, conformal
from polygate.decision.conformal import Rate, Reference
from polygate.decision.fitting import Examples, Fit, SourceRows, fit_examples, fit_source, settled, val_examples
from polygate.prompts import table
from polygate.prompts.table import SUBSETS, PromptTable
from polygate.representation.directions import POSITION, open_matching, unit
from polygate.representation.subspace import subspace
from polygate.settings.types import Calibration, Gate, Tier

Scorer = Literal["gate", "surface", "semantic"]
Wide = NDArray[np.float64]

KEPT = 0.25
"""Share of each class's train prompts that drawing leaves to fit on at least; larger budgets are left out."""
PARALLEL_ALPHA = 0.05
"""The miss rate that the published comparison with parallel prompts aims at."""


@dataclass(frozen=True)
class Rule:
    """A rule of calibration: the rate that it promises to bound ("" for none), what it sees, what it assumes."""

    bounds: Rate | Literal[""]
    sees: str
    assumes: str


_EXCHANGEABLE = "examples like the prompts to come"
RULES: Mapping[str, Rule] = {
    "paper": Rule("", "both classes", "scores of examples that were fitted on hold for others"),
    "macro_f1": Rule("", "both classes", "the best threshold for few is the best for all"),
    "conformal_miss": Rule("miss", "harmful", _EXCHANGEABLE),
    "conformal_false_flags": Rule("false_flags", "harmless", _EXCHANGEABLE),
    "pac_miss": Rule("miss", "harmful", _EXCHANGEABLE),
    "pac_false_flags": Rule("false_flags", "harmless", _EXCHANGEABLE),
    "parallel": Rule("miss", "harmful", _EXCHANGEABLE),
    "quantile_matching": Rule("", "no labels", "scores moved by one increasing map; the sources' share of harm"),
    "quantile_matching_shift": Rule("", "no labels", "scores moved by one increasing map; share of harm by mixture"),
    "mixture": Rule("", "no labels", "normal scores per class, spreads in the sources' proportion"),
    "prior": Rule("", "harmful", "a language like the sources; normal scores"),
}
"""In the order of the table."""


@dataclass(frozen=True)
class Language:
    """Prompts of one language with what a scorer reads of them.

    `train` [n, d] holds the multiple-choice prompts too (`choice` bool [n]), `val` [k, d] and `test` [m, d] don't;
    `harmful` bool [n], `ids` [n] and `test_ids` [m]. The `scorer` "gate" reads activations, float32, "surface" surface
    features, float64, and "semantic" embeddings, float32.
    """

    name: str
    tier: Tier
    prompts: PromptTable
    train: NDArray[Any]
    val: NDArray[Any]
    test: NDArray[Any]
    ids: NDArray[np.str_]
    harmful: NDArray[np.bool_]
    choice: NDArray[np.bool_]
    test_ids: tuple[str, ...]
    test_harmful: NDArray[np.bool_]
    scorer: Scorer

    @classmethod
    def of(cls, tier: Tier, prompts: PromptTable, values: NDArray[Any], scorer: Scorer) -> Language:
        """From what the scorer reads of all `prompts`, `values` [len(prompts), d]."""
        rows, test = prompts.select("train", multiple_choice=True), prompts.select("test")
        ids = np.array(prompts.ids)
        return cls(
            prompts.language,
            tier,
            prompts,
            values[rows],
            values[prompts.select("val")],
            values[test],
            ids[rows],
            prompts.harmful[rows],
            prompts.multiple_choice[rows],
            tuple(ids[test].tolist()),
            prompts.harmful[test],
            scorer,
        )

    @property
    def tested(self) -> bool:
        """Whether the test prompts hold both classes."""
        return bool(self.test_harmful.any() and not self.test_harmful.all())

    def drawn(self, count: int, draw: int, seed: int) -> NDArray[np.str_]:
        """Ids of `count` harmful, then `count` harmless train prompts: those of the gates."""
        return np.array(self.prompts.ids)[calibration.draw_examples(self.prompts, count, draw, seed)]

    def rows(self, ids: NDArray[np.str_]) -> NDArray[np.int64]:
        """Places of train prompts by their ids."""
        place = {name: row for row, name in enumerate(self.ids.tolist())}
        return np.array([place[name] for name in ids.tolist()], np.int64)

    def difference(self, kept: NDArray[np.bool_]) -> Wide:
        """Unit difference in means of the train rows `kept` [n], multiple choice left out, float64 [d]."""
        harmful = self.train[kept & self.harmful].mean(axis=0, dtype=np.float64)
        return unit(harmful - self.train[kept & ~self.harmful & ~self.choice].mean(axis=0, dtype=np.float64))


def load(
    tiers: Sequence[Tier],
    names: Sequence[str],
    prompts: Sequence[str | Path],
    activations: Sequence[str | Path],
    layer: int,
    model: str | None,
) -> dict[Scorer, list[Language]]:
    """Every language as gate and surface see it; `PolygateError` for files of something else, or not finite."""
    found: dict[Scorer, list[Language]] = {"gate": [], "surface": []}
    for tier, name, path, store in zip(tiers, names, prompts, activations, strict=True):
        own = table.read_to_fit(path, language=name)
        opened = open_matching(store, own, model)
        values = opened.read(layer, POSITION)
        opened.check_finite(values, layer)
        found["gate"].append(Language.of(tier, own, values, "gate"))
        found["surface"].append(Language.of(tier, own, surface_features(own.texts), "surface"))
    return found


def load_embedded(
    tiers: Sequence[Tier],
    names: Sequence[str],
    prompts: Sequence[str | Path],
    embeddings: Sequence[str | Path],
    wanted: Mapping[str, str],
) -> tuple[list[Language], str]:
    """Every language as a sentence encoder sees it, and which that is.

    Raises `PolygateError` for files of something else, of two encoders, or of another than is `wanted`.
    """
    found = [
        semantic.Embedded.load(path, table.read_to_fit(own, language=name), wanted)
        for name, own, path in zip(names, prompts, embeddings, strict=True)
    ]
    semantic.expect_one_encoder(embeddings, found)
    read = [Language.of(tier, one.prompts, one.values, "semantic") for tier, one in zip(tiers, found, strict=True)]
    return read, semantic.described(found[0].encoder)


@dataclass(frozen=True)
class Scoring:
    """A gate of some sources, fitted without some prompts: its fit, and its subspace [r, d] (None of controls)."""

    fit: Fit
    basis: Wide | None

    def score(self, values: NDArray[Any]) -> Wide:
        """Scores [n] of what the scorer reads of prompts, [n, d]."""
        return self.fit.score(_coordinates(values, self.basis))

    def flags(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the prompts are harmful by the fit's own threshold, bool [n]."""
        return self.fit.flags(_coordinates(values, self.basis))


class Evaluation:
    """All rules for all languages of one scorer, `languages` in order; `pivot` orients the signs of subspaces."""

    def __init__(self, languages: Sequence[Language], gate: Gate, settings: Calibration, pivot: str, seed: int) -> None:
        self.languages = {language.name: language for language in languages}
        self.gate, self.settings, self.pivot, self.seed = gate, settings, pivot, seed
        fewest = min(len(one.prompts.select("train", subset)) for one in languages for subset in SUBSETS)
        most = int((1 - KEPT) * fewest)
        self.parallel = min(settings.parallel, most)
        budgets = {budget for budget in gate.budgets if 0 < budget <= most}
        self.budgets = sorted({*budgets, *([self.parallel] if self.parallel else [])})

    def sources(self, target: str) -> list[Language]:
        """High-resource languages without the target."""
        return [one for one in self.languages.values() if one.tier == "high" and one.name != target]

    def fitted(
        self, sources: Sequence[Language], without: NDArray[np.str_], target: Language, drawn: bool = False
    ) -> Scoring:
        """The gate of `sources` without the prompts of these ids; with `drawn` these are examples of the target.

        In that case nothing is left out: it is the paper's gate, fitted on the examples and calibrated on what the
        settings name. Ties are as the settings have them.
        """
        kept = [np.full(len(one.ids), True) if drawn else ~np.isin(one.ids, without) for one in sources]
        basis = None
        if target.scorer == "gate":
            differences = np.stack([one.difference(rows) for one, rows in zip(sources, kept, strict=True)])
            names = [one.name for one in sources]
            towards = differences[names.index(self.pivot) if self.pivot in names else 0]
            basis = subspace(differences, self.gate.rank, towards).basis
        rows = SourceRows.stack(
            [one.name for one in sources],
            [_coordinates(one.train[keep], basis) for one, keep in zip(sources, kept, strict=True)],
            [one.harmful[keep] for one, keep in zip(sources, kept, strict=True)],
        )
        examples, val = None, None
        if drawn:
            own = target.rows(without)
            examples = Examples(_coordinates(target.train[own], basis), target.harmful[own])
            val = val_examples(target.prompts, _coordinates(target.val, basis), self.gate)
        return Scoring(settled(self._fit(target.scorer, rows, examples), val, self.gate), basis)

    def _fit(self, scorer: Scorer, rows: SourceRows, examples: Examples | None) -> Fit:
        objective = self.gate.objective
        if scorer == "semantic":
            if examples is None:
                return semantic.fit_source(rows, objective)
            return semantic.fit_examples(rows, examples, objective)
        rank = rows.features.shape[1]
        options: dict[str, Any] = {"solver": self.gate.solver, "objective": objective, "seed": self.seed}
        if examples is None:
            return fit_source(rows, rank, **options)
        return fit_examples(rows, [examples], rank, **options)[0]

    def reference(self, target: str) -> Reference:
        """Scores of each source by a gate of the others, on every second prompt, which that gate is fitted without.

        Of a single source: its own scores on them, by a gate of the other prompts.
        """
        sources = self.sources(target)
        parts = []
        for one in sources:
            others = [other for other in sources if other is not one] or [one]
            held = np.concatenate([one.ids[one.harmful][::2], one.ids[~one.harmful & ~one.choice][::2]])
            rows = one.rows(held)
            parts.append((self.fitted(others, held, one).score(one.train[rows]), one.harmful[rows]))
        scores, harmful = (np.concatenate(values) for values in zip(*parts, strict=True))
        language = np.repeat(np.arange(len(parts)), [len(values) for values, _ in parts])
        return Reference(scores[harmful], scores[~harmful], language[harmful])

    def flags(self, target: Language) -> Iterator[tuple[str, float | None, int, NDArray[np.bool_]]]:
        """Rule, α (None for rules without), budget, and the decisions on the target's test prompts, [draws, m].

        Where a rule can promise nothing with so few examples its decisions are [0, m].
        """
        sources, reference = self.sources(target.name), self.reference(target.name)
        whole = self.fitted(sources, np.empty(0, np.str_), target)
        test = whole.score(target.test)
        yield "paper", None, 0, whole.flags(target.test)[None]
        known = conformal.prior(reference)
        if known is not None:
            for alpha in self.settings.alphas:
                yield "prior", alpha, 0, calibration.decide(test, known.threshold(np.empty(0), alpha))[None]
        for budget in self.budgets:
            found: dict[tuple[str, float | None], list[NDArray[np.bool_]]] = {}
            for draw in range(self.gate.draws):
                for key, decided in self._draw(target, sources, reference, known, budget, draw):
                    kept = found.setdefault(key, [])
                    kept += [] if decided is None else [decided]
            for (rule, level), decisions in found.items():
                empty = np.empty((0, len(target.test_ids)), np.bool_)
                yield rule, level, budget, np.stack(decisions) if decisions else empty

    def _draw(
        self,
        target: Language,
        sources: Sequence[Language],
        reference: Reference,
        known: conformal.Prior | None,
        budget: int,
        draw: int,
    ) -> Iterator[tuple[tuple[str, float | None], NDArray[np.bool_] | None]]:
        """Decisions of every rule on one draw, None where it can promise nothing."""
        drawn = target.drawn(budget, draw, self.seed)
        rows = target.rows(drawn)
        labels = target.harmful[rows]
        yield ("paper", None), self.fitted(sources, drawn, target, drawn=True).flags(target.test)
        scoring = self.fitted(sources, drawn, target)
        own, test = scoring.score(target.train[rows]), scoring.score(target.test)
        best = calibration.example_threshold(own, labels, self.gate.objective)
        yield ("macro_f1", None), calibration.decide(test, best.threshold)
        mixture = conformal.mixture(own, reference)
        for alpha in self.settings.alphas:
            k = conformal.conformal_rank(budget, alpha)
            certain = conformal.pac_rank(budget, alpha, self.settings.delta)
            thresholds = {
                "conformal_miss": conformal.threshold_at("miss", own[labels], k),
                "conformal_false_flags": conformal.threshold_at("false_flags", own[~labels], k),
                "pac_miss": conformal.threshold_at("miss", own[labels], certain),
                "pac_false_flags": conformal.threshold_at("false_flags", own[~labels], certain),
                "quantile_matching": conformal.quantile_matching(own, reference, alpha, reference.share),
                "quantile_matching_shift": conformal.quantile_matching(own, reference, alpha, mixture.share),
                "mixture": mixture.threshold(alpha),
            }
            if known is not None:
                thresholds["prior"] = known.threshold(own[labels], alpha)
            for rule, threshold in thresholds.items():
                yield (rule, alpha), None if threshold is None else calibration.decide(test, threshold)
        if budget == self.parallel and self.pivot != target.name:
            yield ("parallel", PARALLEL_ALPHA), self._parallel(target, drawn, rows[labels])

    def _parallel(
        self, target: Language, drawn: NDArray[np.str_], harmful: NDArray[np.int64]
    ) -> NDArray[np.bool_] | None:
        """Split conformal on scores of the pivot alone: labelled prompts of it carried over to the target."""
        scoring = self.fitted([self.languages[self.pivot]], drawn, target)
        rank = conformal.conformal_rank(len(harmful), PARALLEL_ALPHA)
        threshold = conformal.threshold_at("miss", scoring.score(target.train[harmful]), rank)
        return None if threshold is None else calibration.decide(scoring.score(target.test), threshold)


def _coordinates(values: NDArray[Any], basis: Wide | None) -> Wide:
    return np.asarray(values if basis is None else values @ basis.T.astype(values.dtype), np.float64)
