"""Gates out of distribution: harmless prompts of the same language, the pivot's for want of any, the surface beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from library.stages.test_stages import BUDGETS, GATE, HIGH, Chain, call, directed
from library.stages.test_stages import FIXED as FIXED_CHOICE
from polygate import files
from polygate.decision import ood as library
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.representation.store import ActivationStore
from polygate.settings.types import dump
from polygate.stages import ood


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    made = directed(tmp_path_factory.mktemp("ood"))
    made.choose(FIXED_CHOICE)
    made.gates("t")
    return made


def scored(chain: Chain, output: Path, **changes: Path) -> None:
    given = {
        "prompts": chain.table("t"),
        "activations": chain.store("t"),
        "own_prompts": chain.table("t"),
        "own_activations": chain.store("t"),
        **changes,
    }
    call(
        ood,
        settings=dump({"gate": GATE, "seed": 0}),
        dataset="",
        target="t",
        gates=chain.path("gates", "t"),
        pivot_prompts=chain.table("a"),
        pivot_activations=chain.store("a"),
        sources=HIGH,
        source_prompts=[chain.table(name) for name in HIGH],
        output=output,
        **given,
    )


def test_gates_say_of_the_fitted_data_set_what_they_said_there(chain: Chain, tmp_path: Path) -> None:
    scored(chain, tmp_path / "out.parquet")
    found = files.read_parquet(tmp_path / "out.parquet").to_pandas()
    first = files.read_parquet(chain.path("gate_scores", "t.parquet")).to_pandas()
    first = first[first["split"] == "test"]
    keys = ["prompt_id", "rank", "budget", "draw"]
    both = found[found["scorer"] == "gate"].drop_duplicates(keys).merge(first, on=keys, suffixes=("", "_first"))
    assert len(both) == len(first)
    assert (both["score"] == both["score_first"]).all()
    assert (both["flagged"] == both["flagged_first"]).all()
    assert set(found["budget"]) == set(BUDGETS)
    # One gate on the surface for each budget and draw of the others.
    setups = {name: set(zip(rows["budget"], rows["draw"], strict=True)) for name, rows in found.groupby("scorer")}
    assert setups["gate"] == setups["surface"]


def test_where_the_language_has_no_harmless_test_prompts_the_pivots_stand_in(chain: Chain) -> None:
    own, pivot = table.read(chain.table("t")), table.read(chain.table("a"))
    stores = [ActivationStore.open(chain.store(name)) for name in ("t", "a")]
    parts = [
        library.Prompts(found, store, found.select("test")) for found, store in zip((own, pivot), stores, strict=True)
    ]
    assert library.paired(*parts).table.language == "t"
    kept = [row for row in range(len(own)) if not own.ids[row].startswith("harmless-test")]
    hole = PromptTable(
        "t",
        tuple(own.ids[row] for row in kept),
        own.split[kept],
        own.subset[kept],
        *(tuple(getattr(own, name)[row] for row in kept) for name in ("texts", "categories", "sources", "references")),
    )
    stand_in = library.paired(library.Prompts(hole, stores[0], hole.select("test")), parts[1])
    assert stand_in.table.language == "a"
    assert set(np.array(stand_in.table.ids)[stand_in.rows]) == {
        pivot.ids[row] for row in pivot.select("test", "harmless")
    }


def test_a_target_among_its_sources_and_activations_of_others_are_refused(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(PolygateError, match="holds language a, expected t"):
        scored(chain, tmp_path / "out.parquet", prompts=chain.table("a"), activations=chain.store("a"))
    with pytest.raises(PolygateError, match="holds language a, expected t"):
        scored(chain, tmp_path / "out.parquet", own_prompts=chain.table("a"))
    assert not (tmp_path / "out.parquet").exists()
