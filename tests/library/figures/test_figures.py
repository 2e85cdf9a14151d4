"""Figures show exactly the numbers of the CSV beside them, the same way every time, and can be read."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from library.figures import made_up
from library.figures.made_up import DEMO, FIVE, PAPER, SMALL, World
from polygate.errors import PolygateError
from polygate.figures import (
    agreement,
    answers,
    baselines,
    calibration,
    decomposition,
    dose,
    gate_f1,
    ood,
    positions,
    probes,
    projections,
    reading,
    recoverability,
    refusal_by_tier,
    selectivity,
    separability,
    style,
    transfer,
    uscore,
    utility,
)

RUNS = {"one model": SMALL, "demo": DEMO, "paper": PAPER, "five models": FIVE}
Make = Callable[[Any], World]
Files = Callable[[str], dict[str, tuple[Path, Path]]]
Drawn = Callable[[str], dict[str, pd.DataFrame]]


def draw_all(world: World, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Every figure and the CSV behind it."""
    table = world.table
    inputs: dict[Any, tuple[Any, ...]] = {
        agreement: (table("agreement"),),
        answers: (table("refusal"), table("separability"), table("choices")),
        separability: (table("separability"), table("choices")),
        projections: (table("choices"), world.projections, world.tiers),
        refusal_by_tier: (table("refusal"),),
        decomposition: (table("decomposition"),),
        selectivity: (table("selectivity"),),
        baselines: (table("selectivity"),),
        dose: (table("dose"),),
        positions: (table("positions"),),
        ood: (table("ood"),),
        utility: (table("utility"),),
        uscore: (table("uscore"),),
        transfer: (table("transfer"),),
        recoverability: (table("recoverability"), table("separability")),
    }
    made = {}
    for module, given in inputs.items():
        name = module.__name__.rpartition(".")[2]
        made[name] = (folder / f"{name}.svg", folder / f"{name}.csv")
        module.draw(*given, *made[name])
    made["gate_f1"] = (folder / "gate_f1.svg", folder / "gate_f1.csv")
    gate_f1.draw(table("gates"), *made["gate_f1"], 2)
    made["calibration"] = (folder / "calibration.svg", folder / "calibration.csv")
    calibration.draw(table("calibration"), *made["calibration"], [0.05, 0.1, 0.2])
    made["probes"] = (folder / "probes.svg", folder / "probes.csv")
    probes.draw(table("probes"), table("gates"), *made["probes"], 2)
    return made


MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        *(agreement, answers, baselines, calibration, decomposition, dose, gate_f1, ood, positions, probes),
        *(projections, recoverability, refusal_by_tier, selectivity, separability, transfer, uscore, utility),
    )
}


@pytest.fixture(scope="session")
def files(world: Make, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """SVG and CSV of every figure of a run, drawn once."""
    made: dict[str, dict[str, tuple[Path, Path]]] = {}

    def make(run: str) -> dict[str, tuple[Path, Path]]:
        if run not in made:
            made[run] = draw_all(world(RUNS[run]), tmp_path_factory.mktemp("figures"))
        return made[run]

    return make


@pytest.fixture(scope="session")
def drawn(world: Make, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """The CSV behind every figure of a run, written once without the figures, read back."""

    def data_alone(drawn: pd.DataFrame, _plot: object, _svg: object, data: Path, _alternative: str) -> None:
        style.save_data(drawn, data)

    made: dict[str, dict[str, pd.DataFrame]] = {}

    def make(run: str) -> dict[str, pd.DataFrame]:
        if run not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(style, "finish", data_alone)
                written = draw_all(world(RUNS[run]), tmp_path_factory.mktemp("data"))
            made[run] = {name: reading.read_table(data, ("model",)) for name, (_, data) in written.items()}
        return {name: data.copy() for name, data in made[run].items()}

    return make


@pytest.fixture(autouse=True)
def _close() -> Iterable[None]:
    yield
    plt.close("all")


def rounded(pairs: Iterable[Iterable[float]]) -> Counter[tuple[float, ...]]:
    """Bags of points or segments, to fewer digits than a CSV keeps."""
    return Counter(tuple(round(float(value), 2) for value in pair) for pair in pairs)


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.has_data()]


def horizontal(axes: Axes) -> list[tuple[float, float]]:
    """Ends of the horizontal intervals."""
    return [
        (path.vertices[0][0], path.vertices[-1][0])
        for lines in axes.collections
        if type(lines).__name__ == "LineCollection"
        for path in lines.get_paths()
    ]


def vertical(axes: Axes) -> list[tuple[float, float]]:
    """Ends of the vertical intervals."""
    return [
        (path.vertices[0][1], path.vertices[-1][1])
        for lines in axes.collections
        if type(lines).__name__ == "LineCollection"
        for path in lines.get_paths()
    ]


def percent(rows: pd.DataFrame, *columns: str) -> Counter[tuple[float, ...]]:
    return rounded(100 * rows[list(columns)].to_numpy())


@pytest.mark.parametrize(("name", "scale"), [("agreement", 1), ("separability", 1), ("selectivity", 100)])
def test_marks_and_intervals_are_those_of_the_csv(drawn: Drawn, name: str, scale: int) -> None:
    data = drawn("demo")[name]
    for axes, (_, rows) in zip(panels(MODULES[name].plot(data)), data.groupby("model", sort=False), strict=True):
        marks = [x for dots in axes.collections if len(dots.get_offsets()) for x, _ in dots.get_offsets()]
        points = [x for x in marks if x != 0]
        assert rounded([x] for x in points) == rounded(scale * rows[["estimate"]].to_numpy())
        assert rounded(horizontal(axes)) == rounded(scale * rows[["low", "high"]].to_numpy())


def test_a_ring_is_around_the_judge_that_is_nearest_to_people(drawn: Drawn) -> None:
    data = drawn("demo")["agreement"]
    ahead = data[data["ahead"].astype(str).str.lower() == "true"]
    # The first judge is ahead by 0.1 in high-resource languages, the other in low-resource ones; in between p is .5.
    assert set(zip(ahead["tier"], ahead["series"], strict=True)) == {
        ("high", "rules / people"),
        ("low", "other / people"),
    }
    assert len(ahead) == len(data[(data["series"] == "rules / people") & (data["tier"] != "mid")])
    for axes, (_, rows) in zip(panels(agreement.plot(data)), ahead.groupby("model", sort=False), strict=True):
        rings = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]  # type: ignore[arg-type, index]
        assert rounded([x] for x in rings) == rounded(rows[["estimate"]].to_numpy())


def test_bars_of_the_decomposition_fill_a_hundred_percent_with_the_shares_of_the_csv(drawn: Drawn) -> None:
    data = drawn("demo")["decomposition"]
    for axes, (_, rows) in zip(panels(decomposition.plot(data)), data.groupby("model", sort=False), strict=True):
        bars = [bar for bars in axes.containers for bar in bars]
        drawn_bars = sorted((bar.get_x(), bar.get_width()) for bar in bars)
        wanted = sorted(map(tuple, 100 * rows[["left", "estimate"]].to_numpy()))
        np.testing.assert_allclose(drawn_bars, wanted, atol=1e-3)
        last = max(bar.get_x() + bar.get_width() for bar in bars)
        assert last == pytest.approx(100)
        assert axes.get_xlim() == (0, 100)
        rows = rows[rows["scorer"] == "gate"]
        last_part = rows["part"] == "representation"
        low = (rows["left"] + rows["low"]).mask(last_part, 1 - rows["high"])
        high = (rows["left"] + rows["high"]).clip(upper=1).mask(last_part, 1 - rows["low"])
        assert rounded(horizontal(axes)) == percent(rows.assign(low=low, high=high), "low", "high")


def test_bars_of_refusal_start_at_zero_and_end_at_the_numbers_of_the_csv(drawn: Drawn) -> None:
    data = drawn("demo")["refusal_by_tier"]
    for axes, (_, rows) in zip(panels(refusal_by_tier.plot(data)), data.groupby("model", sort=False), strict=True):
        bars = [bar for bars in axes.containers for bar in bars]
        assert all(bar.get_y() == 0 for bar in bars)
        assert rounded([bar.get_height()] for bar in bars) == percent(rows, "estimate")
        assert rounded(vertical(axes)) == percent(rows, "low", "high")
        assert axes.get_ylim()[0] == 0


def test_lines_of_the_gate_are_those_of_the_csv_controls_beside_them(drawn: Drawn) -> None:
    data = drawn("demo")["gate_f1"]
    assert set(data["scorer"]) == {"gate", "surface", "semantic"}
    for axes, (_, rows) in zip(panels(gate_f1.plot(data)), data.groupby("model", sort=False), strict=True):
        for scorer in ("gate", "surface", "semantic"):
            values = [[y] for line in axes.lines if line.get_label() == scorer for y in line.get_ydata()]
            assert rounded(values) == rounded(rows.loc[rows["scorer"] == scorer, ["estimate"]].to_numpy())
        assert rounded(vertical(axes)) == rounded(rows[["low", "high"]].to_numpy())


@pytest.mark.parametrize("run", ["one model", "demo"])
def test_lines_out_of_distribution_are_those_of_the_csv_a_row_for_each_data_set(drawn: Drawn, run: str) -> None:
    data = drawn(run)["ood"]
    assert set(data["gate"]) == {"v_hrl", "subspace", "surface", "semantic"}
    assert set(data.loc[data["gate"] == "semantic", "estimate"]) == {0.7}
    places = list(data.groupby(["dataset", "model"], sort=False))
    for axes, (_, rows) in zip(panels(ood.plot(data)), places, strict=True):
        for gate, mine in rows.groupby("gate"):
            values = [[y] for line in axes.lines if line.get_label() == gate for y in line.get_ydata()]
            assert rounded(values) == rounded(mine[["estimate"]].to_numpy())
        assert rounded(vertical(axes)) == rounded(rows[["low", "high"]].to_numpy())


@pytest.mark.parametrize("run", ["demo", "five models"])
def test_cells_of_the_heat_maps_are_those_of_the_csv_and_say_what_differs(drawn: Drawn, run: str) -> None:
    data = drawn(run)["transfer"]
    data["within"] = data["within"].astype(str).str.lower() == "true"
    sources, languages = reading.names(data, "source"), reading.names(data, "language")
    assert sources[:3] == ["surface", "encoder", "none"]
    assert sources[3:] == languages
    metrics = ("f1", "auc", "balanced_accuracy")
    shown = [axes for axes in transfer.plot(data).axes[:-1] if axes.collections]
    places = [(metric, model) for metric in metrics for model in reading.names(data, "model")]
    assert [label.get_text() for label in shown[-1].get_xticklabels()] == languages
    assert [label.get_text() for label in shown[0].get_yticklabels()] == sources
    for axes, (metric, model) in zip(shown, places, strict=True):
        rows = data[(data["metric"] == metric) & (data["model"] == model)].set_index(["source", "language"])
        for (y, x), value in np.ndenumerate(axes.collections[0].get_array()):
            assert value == pytest.approx(rows.loc[(sources[y], languages[x]), "estimate"], abs=1e-5)
        framed = {(round(patch.get_x() + 0.5), round(patch.get_y() + 0.5)) for patch in axes.patches}
        assert framed == {(languages.index(name), sources.index(name)) for name in languages}
        dots = {(int(line.get_xdata()[0]), int(line.get_ydata()[0])) for line in axes.lines}
        told = rows[rows["p_holm"] < 0.05].index
        assert dots == {(languages.index(language), sources.index(source)) for source, language in told}
        assert dots


def test_lines_of_the_u_score_are_those_of_the_csv_with_the_layer_that_is_read(drawn: Drawn) -> None:
    data = drawn("demo")["uscore"]
    for axes, (_, rows) in zip(panels(uscore.plot(data)), data.groupby("model", sort=False), strict=True):
        lines = [line for line in axes.lines if len(line.get_xdata()) == len(made_up.LAYERS) and line.get_zorder() > 1]
        points = [point for line in lines for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]
        assert rounded(points) == rounded(rows[["layer", "estimate"]].to_numpy())
        stripes = {float(line.get_xdata()[0]) for line in axes.lines if line.get_color() == style.FAINT}
        assert stripes == set(rows.loc[rows["read"].astype(str).str.lower() == "true", "layer"]) == {1}
        bands = [band.get_datalim(axes.transData) for band in axes.collections]
        tiers = rows[rows["language"] == ""].groupby("tier")
        assert rounded([band.y0, band.y1] for band in bands) == rounded(
            [[own["low"].min(), own["high"].max()] for _, own in tiers]
        )


def test_marks_of_utility_are_those_of_the_csv_in_the_order_of_its_arms(drawn: Drawn) -> None:
    data = drawn("demo")["utility"]
    arms = ["none", "addition", "ablation", *(f"routed-{budget}" for budget in (0, 1, 4, 16, 64))]
    shown = panels(utility.plot(data))
    assert [label.get_text() for label in shown[-1].get_xticklabels()] == arms
    metrics = ("accuracy", "margin", "flagged")
    places = [(metric, model) for metric in metrics for model in data["model"].unique()]
    for axes, (metric, model) in zip(shown, places, strict=True):
        rows = data[(data["metric"] == metric) & (data["model"] == model)]
        marks = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
        points = [(round(x), y) for line in marks for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]
        expected = [(arms.index(arm), y) for arm, y in zip(rows["arm"], rows["estimate"], strict=True)]
        assert rounded(points) == rounded(expected)
        assert rounded(vertical(axes)) == rounded(rows[["low", "high"]].to_numpy())


def test_rates_of_calibration_are_those_of_the_csv_and_nothing_stands_where_nothing_is_promised(drawn: Drawn) -> None:
    data = drawn("paper")["calibration"]
    assert set(data["tier"]) == {"low"}
    assert set(data.loc[data["rule"] == "conformal_miss", "budget"]) == {16, 64}
    assert set(data["alpha"].dropna()) == {0.1}
    beside = data[data["rule"] == calibration.CONTROLS["semantic"]]
    assert set(beside["budget"]) == {16, 64}
    assert set(beside["estimate"]) == {0.3}
    of_panels = {(axes.get_title(), number): axes for number, axes in enumerate(panels(calibration.plot(data)))}
    for (_, number), axes in of_panels.items():
        model, metric = reading.names(data, "model")[number % 3], ("miss", "false_flags")[number // 3]
        mine = data[(data["model"] == model) & (data["metric"] == metric)]
        lines = [line for line in axes.get_lines() if line.get_marker() != "None"]
        heights = [(float(y),) for line in lines for y in line.get_ydata()]
        assert rounded(heights) == rounded((value,) for value in mine["estimate"])
        assert rounded(vertical(axes)) == rounded(zip(mine["low"], mine["high"], strict=True))


def test_every_language_has_its_panels_with_its_doses_and_their_numbers(drawn: Drawn) -> None:
    data = drawn("five models")["dose"]
    shown = panels(dose.plot(data))
    assert [axes.get_title() for axes in shown] == ["l1", "l2", "", ""]
    metrics = [("refused", "routed")] * 2 + [("auc", "f1")] * 2
    for axes, metric, language in zip(shown, metrics, ["l1", "l2"] * 2, strict=True):
        rows = data[(data["language"] == language) & data["metric"].isin(metric)]
        labels = ["0", "2", "4", "8", "16"] if "auc" in metric else []
        assert [label.get_text() for label in axes.get_xticklabels()] == labels
        assert rounded([y] for line in axes.lines for y in line.get_ydata()) == rounded(rows[["estimate"]].to_numpy())
        means = rows[rows["model"] == ""]
        assert rounded(vertical(axes)) == rounded(means[["low", "high"]].to_numpy())
        curves = [line for line in axes.lines if line.get_linestyle() != "None"]
        assert rounded([y] for line in curves for y in line.get_ydata()) == rounded(means[["estimate"]].to_numpy())
        at = {round(float(x)) for line in axes.lines for x in line.get_xdata()}
        assert at == {0, 1, 2, 3, 4}


def test_alignments_are_not_drawn_beside_their_mean_where_each_dose_has_one(drawn: Drawn) -> None:
    table = drawn("five models")["dose"]
    data = dose.select(table[table["dose"] < 16])
    assert set(data["model"]) == {""}
    assert len(data) == 4 * len(table[(table["model"] == "") & (table["dose"] == 16)])


@pytest.mark.parametrize("run", ["demo", "five models"])
def test_lines_of_positions_are_those_of_the_csv_and_marks_where_each_is_read(drawn: Drawn, run: str) -> None:
    data = drawn(run)["positions"]
    assert set(data["target"]) == {"harmful", "refused"}
    for (tier, model), axes in _named_grid(positions.plot(data), data).items():
        rows = data[(data["model"] == model) & (data["tier"] == tier)]
        lines = [line for line in axes.lines if line.get_linestyle() in ("-", "--") and len(line.get_xdata()) > 1]
        curves = [line for line in lines if line.get_color() in {look.colour for look in positions.LOOKS.values()}]
        points = [point for line in curves for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]
        assert rounded(points) == rounded(rows[["layer", "estimate"]].to_numpy())
        marks = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
        read = [point for line in marks for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]
        assert rounded(read) == rounded(rows.loc[rows["read"], ["layer", "estimate"]].to_numpy())
        bands = [path.vertices for band in axes.collections for path in band.get_paths()]
        ends = {round(float(y), 2) for vertices in bands for _, y in vertices}
        assert {round(float(y), 2) for y in rows[["low", "high"]].to_numpy().ravel()} <= ends
        levels = {line.get_color(): line.get_ydata()[0] for line in axes.lines if len({*line.get_ydata()}) == 1}  # type: ignore[arg-type, index, misc]
        assert (levels[style.BASELINE], levels[style.ENCODER]) == (0.6, 0.7)


def test_the_first_figure_draws_every_number_of_its_csv(drawn: Drawn) -> None:
    data = drawn("demo")["answers"]
    for axes, (_, rows) in zip(panels(answers.plot(data)), data.groupby("model", sort=False), strict=True):
        values = {round(float(y), 2) for line in axes.lines for y in line.get_ydata()}
        assert values == {point[0] for point in percent(rows, "estimate")}
        assert set(rounded(vertical(axes))) == set(percent(rows, "low", "high"))


def test_densities_and_thresholds_are_those_of_the_csv(drawn: Drawn) -> None:
    data = drawn("demo")["projections"]
    groups = data.groupby(["tier", "model"], sort=False)
    axes = {(label, model): ax for (label, model), ax in _named_grid(projections.plot(data), data).items()}
    for key, rows in groups:
        for name in ("harmful", "harmless"):
            (line,) = [line for line in axes[key].lines if line.get_label() == name]
            curve = rows[(rows["kind"] == "density") & (rows["name"] == name)]
            np.testing.assert_allclose(line.get_ydata(), curve["density"], rtol=1e-5)
            area = np.trapezoid(curve["density"], curve["score"])
            assert area == pytest.approx(1, abs=0.03)
        marked = sorted(
            line.get_xdata()[0]
            for line in axes[key].lines
            if len(line.get_xdata()) == 2 and set(line.get_ydata()) == {0, 1}
        )
        np.testing.assert_allclose(marked, sorted(rows.loc[rows["kind"] == "threshold", "score"]), rtol=1e-5)


def _named_grid(figure: Figure, data: pd.DataFrame) -> dict[tuple[str, str], Axes]:
    models = list(data["model"].unique())
    tiers = style.present(data["tier"])
    grid = np.reshape(np.array(panels(figure), dtype=object), (len(tiers), len(models)))
    return {(tier, model): grid[i, j] for i, tier in enumerate(tiers) for j, model in enumerate(models)}


def test_figures_are_the_same_bytes_in_another_process(world: Make, files: Files, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from library.figures.made_up import SMALL, World\n"
        "from library.figures.test_figures import draw_all\n"
        "draw_all(World(Path(sys.argv[1]), *SMALL), Path(sys.argv[2]))\n"
    )
    tests = Path(__file__).parents[2]
    environment = os.environ | {
        "PYTHONHASHSEED": "7",
        "PYTHONPATH": os.pathsep.join([str(tests), *sys.path]),
        "SOURCE_DATE_EPOCH": "1",
    }
    there = tmp_path / "there"
    subprocess.run([sys.executable, "-c", code, str(world(SMALL).folder), str(there)], check=True, env=environment)
    for pair in files("one model").values():
        for file in pair:
            assert file.read_bytes() == (there / file.name).read_bytes(), file.name


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", MODULES)
def test_no_text_covers_another_or_leaves_the_figure(drawn: Drawn, name: str, run: str) -> None:
    figure = MODULES[name].plot(drawn(run)[name])
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    spare = {label for axes in figure.axes for label in _spare_labels(axes)}
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    shown = [text for text in shown if text not in spare]
    boxes = {text: text.get_window_extent(renderer) for text in shown}
    page = figure.bbox
    for text, box in boxes.items():
        inside = page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1 and page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1
        assert inside, f"{text.get_text()!r} leaves the figure"
    for (one, first), (other, second) in combinations(boxes.items(), 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert width <= 1 or height <= 1, f"{one.get_text()!r} covers {other.get_text()!r}"


def _spare_labels(axes: Axes) -> list[Text]:
    """Labels of ticks that matplotlib keeps beyond the limits of an axis and doesn't draw."""
    return [
        label
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
        if not min(limits) <= tick.get_loc() <= max(limits)
    ]


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"dose"}))
def test_every_model_has_a_panel_with_its_name(drawn: Drawn, name: str) -> None:
    titles = [axes.get_title() for axes in panels(MODULES[name].plot(drawn("five models")[name]))]
    assert [title for title in titles if title] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    "name", ["answers", "gate_f1", "positions", "projections", "refusal_by_tier", "selectivity", "separability"]
)
def test_tiers_have_their_colours_in_every_figure(files: Files, name: str) -> None:
    text = files("one model")[name][0].read_text()
    for colour in style.TIER_COLOURS.values():
        assert to_hex(colour) in text


# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3).tolist(),
}
NOTICEABLE = 20
"""Distance in CIELAB; 2 is just noticeable side by side, 20 is told apart in small marks."""


def lab(colour: str, deficiency: str) -> np.ndarray[Any, Any]:
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    ratio = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("palette", [style.TIER_COLOURS, style.PART_COLOURS], ids=["tiers", "parts"])
def test_colours_stay_apart_whatever_colours_one_sees(palette: dict[str, str], deficiency: str) -> None:
    for one, other in combinations(palette.values(), 2):
        distance = float(np.linalg.norm(lab(one, deficiency) - lab(other, deficiency)))
        assert distance > NOTICEABLE, (one, other, distance)


def test_text_needs_no_font_and_nothing_from_elsewhere(files: Files) -> None:
    for svg, _ in files("one model").values():
        text = svg.read_text()
        assert "<text" not in text
        assert "<image" not in text
        assert "<dc:date>" not in text


def test_the_high_resource_threshold_is_blind_to_everything_but_high_resource_validation_prompts(world: Make) -> None:
    run = world(DEMO)
    choices = reading.read_table(run.table("choices"), ("model", "what", "value"))
    before = projections.select(choices, run.projections, run.tiers)
    others = {**run.tiers, "low": run.tiers["low"][:1], "mid": ()}
    after = projections.select(choices, run.projections, others)

    def source(data: pd.DataFrame) -> pd.Series:
        rows = data[(data["name"] == "high-resource") & (data["tier"] == "low")]
        return rows.set_index("model")["score"]

    pd.testing.assert_series_equal(source(before), source(after))
    moved = before[before["name"] == "recalibrated"].set_index(["model", "tier"])["score"]
    for model in run.models:
        assert moved[model, "low"] < source(before)[model]


def test_a_recalibrated_threshold_looks_at_sixteen_prompts_per_class_and_language(world: Make) -> None:
    run = world(DEMO)
    files = [run.projections["llama"][name] for name in run.tiers["low"]]
    everything = projections.read(files, 1, "val")
    few = everything.first(projections.EXAMPLES)
    assert len(everything.scores) == len(files) * 2 * 24
    assert Counter(zip(few.languages.tolist(), few.labels.tolist(), strict=True)) == {
        (language, label): 16 for language in range(len(files)) for label in (True, False)
    }


def test_probes_are_drawn_from_high_resource_sources_with_the_threshold_of_their_budget(drawn: Drawn) -> None:
    data = drawn("demo")["probes"]
    # OMNIGuard learns from the mid-resource languages too.
    assert set(data["sources"]) == {"high", "", "high+mid"}
    assert set(data.loc[data["sources"] == "high+mid", "probe"]) == {"omniguard"}
    own = data[~data["probe"].isin(["surface", "semantic"])]
    assert set(own.loc[own["budget"] == 0, "threshold_from"]) == {"source"}
    assert set(own.loc[own["budget"] > 0, "threshold_from"]) == {"examples"}
    assert set(own.loc[own["probe"] == "subspace", "rank"]) == {2.0}
    for control in ("surface", "semantic"):
        assert set(data.loc[data["probe"] == control, "budget"]) == set(own["budget"])
    places = panels(probes.plot(data))
    assert len(places) == 9
    for axes, (_, rows) in zip(places, data.groupby(["tier", "model"], sort=False), strict=False):
        assert len(vertical(axes)) == len(rows)


def test_a_run_without_an_encoder_has_neither_its_marks_nor_their_names(world: Make) -> None:
    table = {name: reading.read_table(world(FIVE).table(name), ("model",)) for name in ("dose", "positions", "gates")}
    for module in (transfer, ood, calibration):
        name = module.__name__.rpartition(".")[2]
        table[name] = reading.read_table(world(FIVE).table(name), module.COLUMNS)
    bare = {name: rows.assign(semantic=np.nan) for name, rows in table.items()}
    figures = {
        "dose": dose.plot(dose.select(table["dose"][table["dose"]["scorer"] != "semantic"])),
        "positions": positions.plot(positions.select(bare["positions"])),
        "transfer": transfer.plot(transfer.select(bare["transfer"])),
        "ood": ood.plot(ood.select(bare["ood"])),
        "calibration": calibration.plot(calibration.select(bare["calibration"], [0.05, 0.1, 0.2])),
    }
    own = reading.read_table(world(FIVE).table("probes"), ("model",))
    gates = table["gates"][table["gates"]["scorer"] != "semantic"]
    figures["probes"] = probes.plot(probes.select(own, gates, 2))
    for figure in figures.values():
        assert not [text for text in figure.findobj(Text) if "encoder" in text.get_text()]  # type: ignore[attr-defined]
        assert style.ENCODER not in {line.get_color() for axes in figure.axes for line in axes.lines}


def test_levels_are_lines_across_and_budgets_points(drawn: Drawn) -> None:
    data = drawn("one model")["recoverability"]
    high = data[data["tier"] == "high"].set_index("probe")
    axes = panels(recoverability.plot(data))[0]
    across = {round(float(line.get_ydata()[0]), 4) for line in axes.lines if len(line.get_ydata()) == 2}  # type: ignore[arg-type, index]
    levels = ["v_hrl", "full_local", "surface"]
    assert {0.5, *(round(float(high.loc[name, "estimate"]), 4) for name in levels)} <= across
    assert rounded(vertical(axes)) == rounded(high.loc[["local", "mlp", "random"], ["low", "high"]].to_numpy())


def test_the_gate_of_a_high_resource_target_is_drawn_at_the_rank_it_has(drawn: Drawn) -> None:
    data = drawn("demo")["gate_f1"]
    ranks = data[data["scorer"] == "gate"].groupby("tier")["rank"].unique()
    assert ranks["high"].tolist() == [1]
    assert ranks["low"].tolist() == [2]


def test_a_language_that_one_model_lacks_leaves_its_row_empty(world: Make) -> None:
    table = reading.read_table(world(DEMO).table("selectivity"), selectivity.COLUMNS)
    table = table[~((table["model"] == "llama") & (table["language"] == "m2"))]
    figure = selectivity.plot(selectivity.select(table))
    labels = [label.get_text() for label in panels(figure)[0].get_yticklabels()]
    assert "m2" in labels


def test_estimates_with_too_little_overlap_are_pale(drawn: Drawn) -> None:
    data = drawn("demo")["separability"]
    assert set(data.loc[data["overlap"] == "too small", "language"]) == {"h2"}
    alphas = {dots.get_alpha() for dots in panels(separability.plot(data))[0].collections}
    assert {0.3, 1.0} <= alphas


def test_settings_without_examples_give_a_figure_that_says_so(world: Make, tmp_path: Path) -> None:
    table = reading.read_table(world(SMALL).table("decomposition"), decomposition.COLUMNS)
    table.iloc[:0].to_csv(tmp_path / "decomposition.csv", index=False)
    decomposition.draw(tmp_path / "decomposition.csv", tmp_path / "out.svg", tmp_path / "out.csv")
    assert (tmp_path / "out.svg").read_bytes().startswith(b"<?xml")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1
    assert "nothing to draw" in style.nothing().texts[0].get_text()


def test_a_table_without_a_column_is_one_line_that_names_it(world: Make, tmp_path: Path) -> None:
    table = pd.read_csv(world(SMALL).table("refusal")).drop(columns="outcome")
    table.to_csv(tmp_path / "refusal.csv", index=False)
    with pytest.raises(PolygateError, match=r"column 'outcome' is missing, in .*refusal\.csv"):
        refusal_by_tier.draw(tmp_path / "refusal.csv", tmp_path / "out.svg", tmp_path / "out.csv")
    assert not (tmp_path / "out.svg").exists()


def test_without_an_encoder_every_figure_has_room_for_its_panels(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What isn't there must not be drawn at the figure's corner, where it would push the panels under the legend."""
    world = made_up.write(tmp_path, DEMO)
    for path in tmp_path.glob("*.csv"):
        frame = pd.read_csv(path, keep_default_na=False)
        if "scorer" in frame.columns:
            frame[frame["scorer"] != "semantic"].to_csv(path, index=False)
        if "semantic" in frame.columns:
            frame.assign(semantic="").to_csv(path, index=False)
    changed = set()

    def lay_out(data: pd.DataFrame, plot: Callable[[pd.DataFrame], Figure], svg: Path, *_: object) -> None:
        if len(data) != len(drawn("demo")[svg.stem]):
            plot(data).draw_without_rendering()
            changed.add(svg.stem)

    drawn("demo")
    monkeypatch.setattr(style, "finish", lay_out)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="constrained_layout not applied")
        draw_all(world, tmp_path)
    beside = {"answers", "calibration", "decomposition", "dose", "gate_f1", "ood", "probes", "separability", "transfer"}
    assert beside <= changed
