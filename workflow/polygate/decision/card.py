"""What the gates of one language say and are: the table of their scores, and a card to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polygate.decision import calibration
from polygate.decision.fitting import Fitted
from polygate.decision.gate import Gate
from polygate.prompts.table import PromptTable

if TYPE_CHECKING:
    from polygate.settings.types import Gate as GateSettings


class Steering(Protocol):
    """What a gate and its card say about the steering that the gate routes to."""

    @property
    def v(self) -> NDArray[np.float32]: ...
    @property
    def layer(self) -> int: ...
    @property
    def strength(self) -> float: ...
    @property
    def gap(self) -> float: ...
    @property
    def alpha(self) -> float: ...
    @property
    def scope(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def sources(self) -> tuple[str, ...]: ...


def score_table(prompts: PromptTable, features: NDArray[Any], fitted: Sequence[Fitted], solver: str) -> pa.Table:
    """Scores of every gate on the val and test prompts of its language, features [n, R]: see `scored`."""
    rows = np.concatenate([prompts.select("val"), prompts.select("test")])
    seen = np.asarray(features)[rows]
    gates = [
        Scored(
            gate.rank,
            gate.budget,
            gate.draw,
            solver,
            gate.fit.threshold.origin,
            gate.fit.threshold.threshold,
            gate.fit.threshold.informative,
            gate.fit.score(seen),
        )
        for gate in fitted
    ]
    return scored(prompts, rows, gates)


@dataclass(frozen=True)
class Scored:
    """What a gate says of n prompts: `scores` float64 [n], and what is known of the gate."""

    rank: int
    budget: int
    draw: int
    solver: str
    threshold_from: str
    threshold: float
    informative: bool
    scores: NDArray[np.float64]


def scored(prompts: PromptTable, rows: NDArray[np.int64], gates: Sequence[Scored]) -> pa.Table:
    """The table of gate scores: one row per gate and prompt of `rows`, gates in their order.

    Columns: prompt_id, split, subset, rank, budget, draw (int16), solver, threshold_from, score, threshold (float64),
    flagged, informative.
    """
    flagged = [calibration.decide(gate.scores, gate.threshold) for gate in gates]
    times = len(rows)

    def per_gate(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(np.repeat(np.asarray(values), times), kind)

    def per_prompt(values: Sequence[str]) -> pa.Array:
        return pa.array(list(values), pa.string()).take(pa.array(np.tile(rows, len(gates))))

    table = pa.table(
        {
            "prompt_id": per_prompt(prompts.ids),
            "split": per_prompt(prompts.split.tolist()),
            "subset": per_prompt(prompts.subset.tolist()),
            "rank": per_gate([gate.rank for gate in gates], pa.int16()),
            "budget": per_gate([gate.budget for gate in gates], pa.int16()),
            "draw": per_gate([gate.draw for gate in gates], pa.int16()),
            "solver": per_gate([gate.solver for gate in gates], pa.string()),
            "threshold_from": per_gate([gate.threshold_from for gate in gates], pa.string()),
            "score": pa.array(np.concatenate([gate.scores for gate in gates]), pa.float64()),
            "threshold": per_gate([gate.threshold for gate in gates], pa.float64()),
            "flagged": pa.array(np.concatenate(flagged), pa.bool_()),
            "informative": per_gate([gate.informative for gate in gates], pa.bool_()),
        }
    )
    return table.replace_schema_metadata({"language": prompts.language})


def gate_of(fitted: Fitted, basis: NDArray[np.float32], steering: Steering, position: str, solver: str) -> Gate:
    """The gate that a file holds: `fitted` with the subspace `basis` [R, d] at the steered layer."""
    fit = fitted.fit
    return Gate(
        basis=np.ascontiguousarray(basis[: fit.rank].T),
        mean=fit.mean,
        scale=fit.scale,
        weights=fit.weights,
        bias=fit.bias,
        threshold=fit.threshold.threshold,
        v=steering.v,
        alpha=steering.alpha,
        scope=steering.scope,  # type: ignore[arg-type]
        layer=steering.layer,
        position=position,
        solver=solver,  # type: ignore[arg-type]
        threshold_from=fit.threshold.origin,
        informative=fit.threshold.informative,
        language=steering.language,
        budget=fitted.budget,
        draw=fitted.draw,
        sources=steering.sources,
        balance=fitted.balance,
    )


def card(
    fitted: Sequence[Fitted],
    steering: Steering,
    settings: GateSettings,
    singular_values: NDArray[np.float64],
    model: Mapping[str, Any],
    threshold: str = "",
) -> str:
    """A Markdown card of one language's gates: what they are of, fitted on, calibrated by, and how to use them.

    `model`: facts about the model and its activations, as their provenance gives them; `threshold`: how it was chosen,
    where not by the settings' objective.
    """
    counted = steering.gap if np.isclose(steering.alpha, steering.strength * steering.gap) else 1.0
    facts = {
        "Language": steering.language,
        "Source languages": f"{', '.join(steering.sources)} (never {steering.language} itself)",
        **{f"Model: {name}": str(value) for name, value in sorted(model.items())},
        "Layer": f"output of decoder block {steering.layer} (0-based), at the last token of the whole prompt",
        "Subspace": f"rank {fitted[0].rank}; singular values of the stacked source directions "
        + ", ".join(f"{value:.3f}" for value in singular_values),
        "Fit": _SOLVERS[settings.solver] + (", converged" if all(f.fit.converged for f in fitted) else ""),
        "Threshold": f"{threshold or f'maximises {settings.objective}'}; harmful when score > threshold"
        + ("" if settings.ties == "harmless" else ", which lies one float64 below that, so that ties are harmful"),
        "Steering": f"alpha = lambda x {'gap' if counted == steering.gap else 'unit'} = {steering.strength:g}"
        + f" x {counted:.4g} = {steering.alpha:.4g}; "
        + _ABLATION[steering.scope],
    }
    lines = [f"# Gates for {steering.language}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "## Thresholds", "", *_threshold_lines(fitted), "", "## Fitted on", "", *_balance_lines(fitted)]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "from polygate import gates",
        "",
        'gate = gates.load("0.0.safetensors")',
        "gates.attach(model, tokenizer, gate)  # any transformers model's generate is routed from here on",
    ]
    lines += ["gate.score(activations)   # logits of [n, d] activations at that layer and token, float64"]
    harmless = "leave it alone" if steering.scope == "none" else "remove the component along v"
    lines += [f"gate.decide(activations)  # True: harmful, add alpha * v; False: harmless, {harmless}"]
    return "\n".join([*lines, "```", ""])


_ABLATION = {
    "layer": "ablation at this layer",
    "all": "ablation at every layer",
    "none": "no ablation: prompts that are not flagged are left alone",
}

_SOLVERS = {
    "convex": "class-balanced logistic regression, convex solve",
    "adamw": "class-balanced logistic regression, 80 full-batch epochs of AdamW",
}


def _threshold_lines(fitted: Sequence[Fitted]) -> list[str]:
    lines = [
        "| examples per class | draws | threshold from | threshold, median (range) | uninformative draws |",
        "|---|---|---|---|---|",
    ]
    for budget in sorted({gate.budget for gate in fitted}):
        thresholds = [gate.fit.threshold for gate in fitted if gate.budget == budget]
        values = sorted(t.threshold for t in thresholds)
        middle = values[len(values) // 2]
        origin = {
            "source": "source languages' train prompts",
            "examples": "the examples",
            "val": "all of the language's val prompts",
        }[thresholds[0].origin]
        empty = sum(not t.informative for t in thresholds)
        lines.append(
            f"| {budget} | {len(values)} | {origin} | {middle:.3f} ({values[0]:.3f} to {values[-1]:.3f}) | {empty} |"
        )
    return lines


def _balance_lines(fitted: Sequence[Fitted]) -> list[str]:
    largest = max(fitted, key=lambda gate: gate.budget)
    lines = ["| language | harmful | harmless (multiple choice included) |", "|---|---|---|"]
    for language, (harmful, harmless) in largest.balance.items():
        note = " (at the largest budget)" if language not in fitted[0].balance else ""
        lines.append(f"| {language}{note} | {harmful} | {harmless} |")
    alone = calibration.one_sided(largest.balance)
    if alone:
        lines += ["", f"One class only in {', '.join(alone)}: a gate may learn the language instead of the harm."]
    return lines
