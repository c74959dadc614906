"""The plots: what they draw, what they leave out, and the files they become."""

from __future__ import annotations

import math
import struct
import warnings
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lwf_assets.comparison.records import ArmEffect, Curve, CurvePoint, ForgottenSample
from lwf_assets.reports.plots import confidence as confidence_plots
from lwf_assets.reports.plots import confidence as sample_plots
from lwf_assets.reports.plots import curves as curve_plots
from lwf_assets.reports.plots import fisher as fisher_plot
from lwf_assets.reports.plots import forest as forest_plot
from lwf_assets.reports.plots.confidence import _bin_edges, nll_before_after
from lwf_assets.reports.plots.export import to_png, to_svg
from lwf_assets.reports.plots.sparkline import sparkline
from lwf_assets.statistics.interval import Interval

NAN = math.nan


def _curve(label: str, values: list[float], seed: int = 0) -> Curve:
    return Curve(label, seed, [CurvePoint(step, value) for step, value in enumerate(values, start=1)])


def _sample(index: int, *, selected: bool, nll: float) -> ForgottenSample:
    by_model = {"base": nll, "reference": nll + 0.1, "lwf": nll + 1}
    return ForgottenSample(f"s{index}", "prompt", "response", 0.1, 1e-3, 60.0, 12, selected, by_model, 1)


def _svg_text(svg: str) -> str:
    return " ".join("".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.text)


def _bold_lines(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in figure.axes[0].get_lines()
        if not str(line.get_label()).startswith("_")
    }


def test_bold_curve_is_the_mean_over_seeds_without_nan() -> None:
    figure = curve_plots.loss_curves([_curve("lwf", [3.0, 2.0, NAN], 0), _curve("lwf", [1.0, 4.0, 7.0], 1)])

    assert _bold_lines(figure) == {"LWF": ([1, 2, 3], [2.0, 3.0, 7.0])}


def test_bold_curve_is_smoothed_when_it_is_long() -> None:
    figure = curve_plots.loss_curves([_curve("reference", [1.0, -1.0] * 50)])

    _, values = _bold_lines(figure)["reference"]
    assert len(values) == 100
    assert max(map(abs, values)) < 0.5


def test_a_loss_curve_of_another_name_is_drawn_under_that_name() -> None:
    assert "learning loss" in _bold_lines(curve_plots.loss_curves([_curve("learning loss", [2.0, 1.0])]))


def test_unlearning_curves_draw_before_and_after() -> None:
    figure = curve_plots.unlearning_curves([_curve("before", [1.0, 2.0]), _curve("after", [1.5, 2.5])])

    assert set(_bold_lines(figure)) == {"before the update", "when next looked at"}


def test_histogram_counts_every_finite_sample_once() -> None:
    confidence = [0.1 * index for index in range(20)] + [NAN]
    figure = confidence_plots.confidence_histogram(confidence, [value > 1 for value in confidence], 1.0)

    (axes,) = figure.axes
    assert sum(patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)) == 20


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(-1e6, 1e6))
@settings(max_examples=200)
def test_bins_hold_all_values_and_part_at_the_threshold(values: list[float], threshold: float) -> None:
    edges = _bin_edges(values, threshold)
    width = edges[1] - edges[0]

    assert all(left < right for left, right in pairwise(edges))
    assert edges[0] <= min(values)
    assert edges[-1] >= max(values) - 1e-6 * width
    if min(values) < threshold < max(values) and len(edges) > 2:
        assert min(abs(edge - threshold) for edge in edges) <= 1e-6 * width


def test_histogram_takes_the_shared_constant_off() -> None:
    constant = 0.0023457
    confidence = [constant + 1e-7 * index for index in range(10)]
    figure = confidence_plots.confidence_histogram(confidence, [True] * 10, constant=constant)

    (axes,) = figure.axes
    assert "constant" in axes.get_xlabel()
    low, high = axes.get_xlim()
    assert -1 < low < high < 12


def test_scatter_keeps_the_chosen_apart() -> None:
    figure = confidence_plots.terms_scatter([1e-7, 2e-7, NAN], [3e-7, 4e-7, 1e-7], [True, False, False])

    (axes,) = figure.axes
    assert [len(points.get_offsets()) for points in axes.collections] == [1, 1]


def test_nll_panels_show_the_mean_and_at_most_so_many_lines() -> None:
    samples = [_sample(index, selected=index % 10 != 0, nll=1.0) for index in range(1000)]
    chosen, kept = nll_before_after(samples).axes

    assert "(900)" in chosen.get_title()
    assert "(100)" in kept.get_title()
    assert len(chosen.get_lines()) <= sample_plots.SAMPLES_DRAWN + 1
    (mean,) = [line for line in chosen.get_lines() if line.get_label() == "mean"]
    assert np.asarray(mean.get_ydata()) == pytest.approx([1.0, 1.1, 2.0])


def test_fisher_has_a_line_per_kind_and_drops_what_a_log_scale_cannot_show() -> None:
    means = {f"model.layers.{layer}.mlp.up_proj.weight": 10.0**-layer for layer in range(3)}
    means |= {"model.layers.0.input_layernorm.weight": 0.0, "model.embed_tokens.weight": 1e-6, "lm_head.weight": NAN}

    lines = _bold_lines(fisher_plot.fisher_by_layer(means))

    assert lines == {"mlp.up_proj": ([0, 1, 2], [1.0, 0.1, 0.01]), "embed_tokens": ([-1], [1e-6])}


def _effect(model: str, difference: Interval, verdict: str, measure: str = "accuracy") -> ArmEffect:
    return ArmEffect(model, measure, 0.5, 0.4, difference, 0.1, NAN, 0.1, verdict, 3, 10)


def test_forest_draws_every_known_effect_and_fills_those_that_the_verdict_is_sure_of() -> None:
    effects = [
        _effect("lwf", Interval(0.1, 0.05, 0.15), "helps"),
        _effect("bss", Interval(0.1, NAN, NAN), "too few seeds to say"),
        _effect("npo", Interval(NAN, NAN, NAN), "too few seeds to say"),
        _effect("npo", Interval(9, 8, 10), "helps", measure="target_nll"),
    ]
    (axes,) = forest_plot.effects_forest(effects, "accuracy", {"lwf": "LWF"}).axes

    assert [label.get_text() for label in axes.get_yticklabels()] == ["LWF", "bss"]
    points = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "none" for line in points] == [False, True]
    intervals = [np.asarray(line.get_xdata()).tolist() for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert [0.05, 0.15] in intervals
    assert "higher is better" in axes.get_xlabel()


def test_several_seeds_are_a_band_from_the_lowest_to_the_highest() -> None:
    (axes,) = curve_plots.loss_curves([_curve("lwf", [3.0, 2.0], 0), _curve("lwf", [1.0, 4.0], 1)]).axes

    (band,) = axes.collections
    (path,) = band.get_paths()
    vertices = {(float(x), float(y)) for x, y in np.asarray(path.vertices)}
    assert {(1.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.0, 4.0)} <= vertices
    assert not curve_plots.loss_curves([_curve("lwf", [3.0, 2.0])]).axes[0].collections


def test_each_arm_has_a_panel_of_its_own_beside_the_reference() -> None:
    curves = [_curve(label, [2.0, 1.0]) for label in ("reference", "lwf", "a", "b", "c", "d")]
    figure = curve_plots.arm_panels(curves, dict.fromkeys("abcd", "arm"), what="loss")

    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 4
    assert all(len(axes.get_lines()) == 2 for axes in shown)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    steps, _ = _bold_lines(curve_plots.loss_curves([_curve("lwf", [1.0] * 5000)]))["LWF"]

    assert len(steps) <= curve_plots.POINTS_DRAWN
    assert (steps[0], steps[-1]) == (1, 5000)


def test_a_name_is_drawn_as_text_and_not_as_mathematics() -> None:
    svg = to_svg(curve_plots.loss_curves([_curve("$\\frac{$\x00", [1.0, 2.0])]))

    assert "$\\frac{$\N{REPLACEMENT CHARACTER}" in _svg_text(svg)


def test_a_sparkline_marks_the_steps_that_pushed() -> None:
    history = [CurvePoint(0, 1.0), CurvePoint(5, 2.0), CurvePoint(10, 3.0)]
    root = ElementTree.fromstring(sparkline(history, {5}, steps=(0, 10), nll=(1.0, 3.0)))

    line, dot = root
    assert line.attrib["points"] == "3.0,23.0 48.0,13.0 93.0,3.0"
    assert (dot.attrib["cx"], dot.attrib["cy"]) == ("48.0", "13.0")
    assert root.attrib["aria-label"] == "NLL from 1.00 to 3.00"
    assert sparkline(history[:1], set(), steps=(0, 10), nll=(1.0, 3.0)) == ""
    assert "nan" not in sparkline([*history, CurvePoint(12, NAN)], set(), steps=(0, 0), nll=(1.0, 1.0))


def test_terms_are_drawn_over_one_scale() -> None:
    left, right = confidence_plots.terms_histogram([1e-7] * 3, [3e-9] * 3, [True, False, True]).axes

    assert "10⁻⁷" in left.get_xlabel()
    assert "10⁻⁷" in right.get_xlabel()
    assert sum(patch.get_height() for patch in left.patches if isinstance(patch, Rectangle)) == 3


ODD_FIGURES = {
    "no curve": lambda: curve_plots.loss_curves([]),
    "one point": lambda: curve_plots.loss_curves([_curve("lwf", [1.0])]),
    "constant curve": lambda: curve_plots.unlearning_curves([_curve("before", [2.0] * 5)]),
    "only NaN": lambda: curve_plots.unlearning_curves([_curve("before", [NAN])]),
    "no sample": lambda: confidence_plots.confidence_histogram([], []),
    "one sample": lambda: confidence_plots.confidence_histogram([0.3], [True], 0.3),
    "equal samples": lambda: confidence_plots.confidence_histogram([1e-9] * 7, [True] * 7, constant=1e-9),
    "one ulp apart": lambda: confidence_plots.confidence_histogram([0.0023, math.nextafter(0.0023, 1)], [True, False]),
    "one scatter point": lambda: confidence_plots.terms_scatter([0.0], [0.0], [True]),
    "no scatter point": lambda: confidence_plots.terms_scatter([NAN], [1.0], [True]),
    "none kept": lambda: nll_before_after([_sample(0, selected=True, nll=1.0)]),
    "nothing scored": lambda: nll_before_after([]),
    "no layer": lambda: fisher_plot.fisher_by_layer({"weight": 1.0}),
    "no Fisher": lambda: fisher_plot.fisher_by_layer({"model.layers.0.mlp.weight": 0.0}),
    "no effect": lambda: forest_plot.effects_forest([], "accuracy", {}),
    "no width": lambda: forest_plot.effects_forest([_effect("lwf", Interval(0, 0, 0), "")], "accuracy", {}),
    "no arm": lambda: curve_plots.arm_panels([], {}, what="loss"),
    "arm without a curve": lambda: curve_plots.arm_panels([], {"a": "b"}, what="loss"),
    "no relearning": lambda: curve_plots.relearning_curves([], {}),
    "no terms": lambda: confidence_plots.terms_histogram([NAN], [NAN], [True]),
    "nothing to hold FC against": lambda: confidence_plots.confidence_against([], [], [], "tokens"),
}


@pytest.mark.parametrize("name", ODD_FIGURES)
def test_odd_data_still_make_a_figure(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = to_svg(ODD_FIGURES[name]())

    assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_an_empty_plot_says_so() -> None:
    assert "no values" in _svg_text(to_svg(curve_plots.loss_curves([])))


def _any_figure() -> Figure:
    return curve_plots.unlearning_curves([_curve("before", [1.0, 2.0, 3.0]), _curve("after", [2.0, 3.0, 4.0])])


def test_svg_is_one_element_with_text_and_no_fixed_size() -> None:
    svg = to_svg(_any_figure())
    root = ElementTree.fromstring(svg)

    assert svg.startswith("<svg")
    assert "width" not in root.attrib
    assert "viewBox" in root.attrib
    assert "when next looked at" in _svg_text(svg)
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "DejaVu" not in svg


def test_svg_is_the_same_every_time() -> None:
    assert to_svg(_any_figure()) == to_svg(_any_figure())


def test_svg_ids_carry_the_prefix_and_are_all_referred_to() -> None:
    svg = to_svg(_any_figure(), prefix="mine")
    ids = [element.attrib["id"] for element in ElementTree.fromstring(svg).iter() if "id" in element.attrib]

    assert ids
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("mine-") and f"#{name}" in svg for name in ids)


def test_different_figures_share_no_id_even_without_a_prefix() -> None:
    def ids(svg: str) -> set[str]:
        return {element.attrib["id"] for element in ElementTree.fromstring(svg).iter() if "id" in element.attrib}

    first = to_svg(curve_plots.loss_curves([_curve("lwf", [1.0, 2.0])]))
    second = to_svg(curve_plots.loss_curves([_curve("lwf", [1.0, 2.1])]))

    assert ids(first)
    assert not ids(first) & ids(second)


def test_svg_colours_can_follow_the_page() -> None:
    svg = to_svg(curve_plots.loss_curves([_curve("lwf", [1.0, 2.0])]))

    assert "var(--plot-lwf, #d55e00)" in svg
    assert "var(--plot-ink, " in svg
    assert "#ffffff" not in svg


def test_png_keeps_within_its_limit_at_the_best_resolution_that_fits() -> None:
    big = to_png(_any_figure())
    small = to_png(_any_figure(), max_bytes=len(big) // 2)

    for png in (big, small):
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        assert png.endswith(b"IEND\xaeB`\x82")
    assert len(big) <= 100_000
    assert len(small) <= len(big) // 2
    assert struct.unpack(">I", small[16:20]) < struct.unpack(">I", big[16:20])


def test_png_that_cannot_fit_is_an_error_with_both_sizes() -> None:
    with pytest.raises(ValueError, match="more than max_bytes=10"):
        to_png(_any_figure(), max_bytes=10)
