"""Cross-lingual transfer: does one more whole language help the others?

For every mid- and low-resource source language a gate is fitted on the high-resource languages' train rows and all of
the source's, on the first r singular vectors of their mean differences, with one threshold for all, from these same
rows (macro objective over the languages). It is tested on the test prompts of every mid- and low-resource language. The
gate without a source, "", is what they are compared with. On the source itself a gate is tested too, on prompts that it
has not seen: what fitting in the language gives, no transfer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from polygate.decision.calibration import decide, with_ties
from polygate.decision.probes.calibrated import sweep
from polygate.decision.probes.features import Differences, Group
from polygate.decision.probes.logistic import logistic
from polygate.decision.probes.parallel import single, spread
from polygate.decision.probes.rows import Language
from polygate.settings.types import Gate

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("language", pa.string()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("subset", pa.string()),
        ("rank", pa.int16()),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("flagged", pa.bool_()),
    ]
)
"""One row per source (the language added), target language and test prompt."""


def transfer(languages: Sequence[Language], gate: Gate, pivot: str, seed: int) -> pa.Table:
    """Scores and decisions of the gate of every source in every target, as `SCHEMA`.

    Empty without high-resource languages. The rank is the gates', or as many dimensions as there are.
    """
    high = [language for language in languages if language.tier == "high"]
    others = [language for language in languages if language.tier != "high"]
    if not high:
        return SCHEMA.empty_table()
    differences = Differences(languages, pivot)
    targets = [language for language in others if language.tested]

    def scored(source: Language | None) -> list[pa.Table]:
        group = Group.of([*high, *([] if source is None else [source])])
        return [_scored("" if source is None else source.name, target, group) for target in targets]

    def _scored(source: str, target: Language, group: Group) -> pa.Table:
        features = [part[:, : gate.rank] for part in differences.subspace(target, group)]
        found = logistic(target, group, features, gate, seed, [(0, 0)])
        assert found.source is not None
        chosen = float(sweep(found.source, group.harmful, group.languages, gate.objective)[0])
        threshold = with_ties(chosen, gate.ties)
        n = len(target.test_ids)
        columns = {
            "source": [source] * n,
            "language": [target.name] * n,
            "prompt_id": list(target.test_ids),
            "split": ["test"] * n,
            "subset": np.where(target.test_harmful, "harmful", "harmless").tolist(),
            "rank": np.full(n, features[0].shape[1], np.int16),
            "score": found.test[0],
            "threshold": np.full(n, threshold),
            "flagged": decide(found.test[0], threshold),
        }
        return pa.table(columns, SCHEMA)

    with single():
        tables = spread(scored, [(source,) for source in (None, *others)])
    return pa.concat_tables([SCHEMA.empty_table(), *(table for of_source in tables for table in of_source)])
