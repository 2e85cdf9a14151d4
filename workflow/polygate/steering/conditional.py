"""Conditional steering by selection: what a gate does with a prompt, assembled from completions that exist.

Greedy text does not depend on the rest of the batch, so the completion of a routed prompt *is* its `addition`
completion when the gate flags it and its `ablation` completion when it doesn't. Every gate, of any budget and draw,
is therefore a selection between two tables, exact and free.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from polygate.errors import PolygateError

SCORE_COLUMNS = ["prompt_id", "split", "rank", "budget", "draw", "score", "flagged"]
"""What routing reads from a gate_scores table."""


def decisions(scores: pa.Table, rank: int, budget: int) -> pa.Table:
    """Test decisions of the gates of one rank and budget: prompt_id, draw int16, gate_score, flagged.

    `scores` is a gate_scores table of one language; sorted by draw, then by the order of prompts. The rank is
    clipped to the largest that the language's gates have, as a high-resource target has one source fewer.
    """
    ranks = pc.unique(scores["rank"]).to_pylist()
    if not ranks:
        raise PolygateError("the table of gate scores is empty")
    used = clipped_rank(rank, max(ranks))
    wanted = pc.and_(pc.equal(scores["rank"], used), pc.equal(scores["budget"], budget))
    rows = scores.filter(pc.and_(wanted, pc.equal(scores["split"], "test")))
    if not rows.num_rows and budget not in pc.unique(scores["budget"]).to_pylist():
        raise PolygateError(f"no gate scores of budget {budget}")
    order = pa.array(range(rows.num_rows), pa.int64())
    rows = rows.append_column("order", order).sort_by([("draw", "ascending"), ("order", "ascending")])
    return rows.select(["prompt_id", "draw", "score", "flagged"]).rename_columns(
        ["prompt_id", "draw", "gate_score", "flagged"]
    )


def clipped_rank(rank: int, available: int) -> int:
    """The rank used where only `available` source languages span the subspace."""
    return min(rank, available)


def select(decided: pa.Table, addition: pa.Table, ablation: pa.Table) -> pa.Table:
    """Rows of `addition` for flagged prompts and of `ablation` for the others, in the order of `decided`.

    `addition` and `ablation` have the same columns and the same prompt_id column, each prompt once. Raises
    `PolygateError` when they differ or lack a prompt that was decided on.
    """
    if addition["prompt_id"].to_pylist() != ablation["prompt_id"].to_pylist():
        raise PolygateError("the addition and ablation tables do not hold the same prompts in the same order")
    found = pc.index_in(decided["prompt_id"], value_set=addition["prompt_id"].combine_chunks())
    if found.null_count:
        lacking = decided["prompt_id"].filter(pc.is_null(found))[0].as_py()
        raise PolygateError(f"prompt {lacking!r} was routed but has no steered completion")
    both = pa.concat_tables([addition, ablation.select(addition.column_names)])
    return both.take(pc.if_else(decided["flagged"], found, pc.add(found, addition.num_rows)))
