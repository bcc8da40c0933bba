"""Laws of the figures: what is drawn is what was given, and it can be read."""

import functools
import io
import itertools
import subprocess
import sys

import matplotlib
import matplotlib.text
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection

from vaelab import checks, plots
from vaelab.plots import _arrays, _canvas, _images

RNG = np.random.default_rng(0)
MODELS = ("vae", "fixed-variance", "conv")
Z = RNG.normal(size=(600, 2)) * 0.5
Y = np.arange(600) % 10
Z[:, 0] += 2 * np.cos(Y * 0.63)
Z[:, 1] += 2 * np.sin(Y * 0.63)
GREY = RNG.random((5, 1, 9, 7))
COLOUR = RNG.random((5, 3, 6, 8))
SIGNALS = RNG.random((30, 1, 1, 64))
TALL = RNG.random((7, 3, 256, 4))
GRID = RNG.random((4, 4, 1, 8, 8))
MANY = ("vae", "fixed-variance", "conv", "a-very-long-recipe-name-that-goes-on", *"abcd")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
           "Bag", "Ankle boot")  # fmt: skip


def entry(epoch, shift=0.0):
    """The history of one epoch, with a first one far away from the rest."""
    rate, distortion = 7 - 1 / epoch + shift, 140 + 500 * np.exp(-2 * epoch) + 20 / epoch
    terms = {"elbo": -rate - distortion, "rate": rate, "distortion": distortion}
    both = {
        f"{split}_{term}": value for split in ("train", "valid") for term, value in terms.items()
    }
    return {"epoch": epoch, "seconds": 3.5 * epoch, **both}


def closed_form(p, q):
    return np.log(q[1] / p[1]) + (p[1] ** 2 + (p[0] - q[0]) ** 2) / (2 * q[1] ** 2) - 0.5


def kl_figure(p, q):
    return plots.kl_densities(p, q, kl=float(closed_form(p, q)))


def strips(names, images, originals=None):
    ends = {name: [0.5, -0.25] for name in names}
    given = dict.fromkeys(names, images)
    return plots.interpolation(given, starts=ends, ends=ends, originals=originals)


def scored(latent=2, **more):
    return {
        "elbo": -140.0, "elbo_se": 0.5, "log_likelihood": -138.0, "log_likelihood_se": 1.0,
        "rate": 7.0, "distortion": 133.0, "kl_per_dimension": [7.0 / latent] * latent,
        "mutual_information": 5.0, "marginal_kl": 2.0, "knn_accuracy": 0.8, "silhouette": -0.2,
        "trustworthiness": 0.95, "continuity": 0.9, "distance_correlation": -0.3,
        "precision": 0.9, "density": 1.6, "mig": None,
    } | more  # fmt: skip


LINE = np.linspace([-1, -1], [1, 1], 9)
X = np.linspace(0.5, 3, 9)
CASES = {
    "latent": lambda: plots.latent_map(dict.fromkeys(MODELS, Z), Y, paths={"vae": LINE}),
    "latent, no labels": lambda: plots.latent_map({"vae": Z}),
    "latent, eight": lambda: plots.latent_map(
        {m: Z * (k + 1) for k, m in enumerate(MANY)}, Y, class_names=FASHION, shares_axes=True
    ),
    "latent, 1-D": lambda: plots.latent_map({"vae": Z[:, :1]}, Y, paths={"vae": LINE[:, :1]}),
    "latent, 5-D": lambda: plots.latent_map({"a": np.tile(Z, 3)}, Y % 2, dims=(4, 1)),
    "latent, 100 classes": lambda: plots.latent_map({"vae": Z}, np.arange(600) % 100),
    "latent, collapsed": lambda: plots.latent_map({"vae": Z * 0, "conv": Z * 1e-3}, Y),
    "reconstructions": lambda: plots.reconstructions(
        GREY, dict.fromkeys(MODELS, GREY), row_labels=[f"label {k}" for k in range(5)]
    ),
    "reconstructions, eight": lambda: plots.reconstructions(COLOUR, dict.fromkeys(MANY, COLOUR)),
    "reconstructions, across": lambda: plots.reconstructions(
        TALL, dict.fromkeys(MANY, TALL), row_labels=FASHION[: len(TALL)], across=True
    ),
    "decoded": lambda: plots.decoded(dict.fromkeys(MODELS, GREY[0]), point=[0.5, 0.2]),
    "decoded, one": lambda: plots.decoded({"vae": COLOUR[0]}, point=-np.arange(20)),
    "decoded, eight": lambda: plots.decoded(dict.fromkeys(MANY, GREY[0]), point=[1]),
    "interpolation": lambda: strips(MODELS, GREY),
    "interpolation, data": lambda: strips(MANY, COLOUR, (COLOUR[0], COLOUR[1])),
    "interpolation, signals": lambda: strips(MODELS, SIGNALS),
    "manifold": lambda: plots.manifold(dict.fromkeys(MODELS, GRID), coordinates=[-1, 0, 0.5, 2]),
    "history": lambda: plots.history({m: [entry(e) for e in range(1, 40)] for m in MODELS}),
    "history, eight": lambda: plots.history(
        {m: [entry(e, k) for e in range(1, 5)] for k, m in enumerate(MANY)}
    ),
    "history, one epoch": lambda: plots.history({"vae": [entry(1)]}),
    "densities": lambda: kl_figure((0.0, 1.0), (1.0, 2.0)),
    "densities, small and large": lambda: kl_figure((0.0, 1e-3), (5.0, 1e3)),
    "densities, large and small": lambda: kl_figure((0.0, 1e3), (0.0, 1e-3)),
    "densities, equal": lambda: kl_figure((-1.0, 2.0), (-1.0, 2.0)),
    "densities, far away": lambda: kl_figure((1e9, 1e-3), (1e9, 2e-3)),
    "comparison": lambda: plots.kl_comparison(
        X, {f"μ = {m}": (X**2 + m, X**2 + m + 1e-12) for m in range(3)}, xlabel="scale of q"
    ),
    "comparison, no difference": lambda: plots.kl_comparison(
        10.0 ** (X * 3), {"KL": (10.0 ** (X * 3), 10.0 ** (X * 3))}, xlabel="costs $1 or $2"
    ),
    "scores": lambda: plots.scores({m: scored(elbo=-140.0 - k) for k, m in enumerate(MODELS)}),
    "scores, eight": lambda: plots.scores({m: scored(9, mig=0.1, sap=None) for m in MANY}),
    "scores, one": lambda: plots.scores({"vae": scored(1, elbo_se=None, mig=0.5)}),
    "image grid": lambda: plots.image_grid(GREY, columns=2),
    "image grid, one pixel": lambda: plots.image_grid(np.zeros((1, 1, 1, 1))),
    "image grid, tall": lambda: plots.image_grid(TALL),
}


@functools.cache
def built(case):
    """The figure of a case, built once for the tests that only read it."""
    return CASES[case]()


every_case = pytest.mark.parametrize("case", CASES)


def texts(owner):
    """The texts of a figure or an axes that are drawn, those of a figure's axes left out."""
    found = []
    for child in owner.get_children():
        if isinstance(child, matplotlib.axis.Axis):
            found += [child.label, child.offsetText]
            for tick in child._update_ticks():  # those in view
                found += [tick.label1, tick.label2]
        elif isinstance(child, matplotlib.text.Text):
            found.append(child)
        elif isinstance(child, matplotlib.legend.Legend):
            found += child.get_texts()
        elif isinstance(owner, matplotlib.axes.Axes) and hasattr(
            child, "xaxis"
        ):  # a secondary axis
            found += texts(child)
    return [text for text in found if text.get_visible() and text.get_text()]


@every_case
def test_texts_lie_inside_the_figure_and_apart(case):
    figure = built(case)
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.bbox.width, figure.bbox.height
    for owner in (figure, *figure.axes):
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(owner)]
        for words, box in boxes:
            inside = min(box.x0, box.y0) > -1 and box.x1 < width + 1 and box.y1 < height + 1
            assert inside, words
        for (words, box), (others, other) in itertools.combinations(boxes, 2):
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            down = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(across, down) < 1.5, (words, others)


@pytest.mark.parametrize("case", [case for case in CASES if "," not in case])
def test_same_arrays_give_same_bytes_and_settings_stay(case):
    before = dict(matplotlib.rcParams)
    content = plots.png_bytes(built(case), dpi=60)
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 20, "axes.grid": True}):
        assert plots.png_bytes(CASES[case](), dpi=60) == content
    assert b"Software" not in content
    assert b"tIME" not in content


@every_case
def test_no_panel_is_empty(case):
    for ax in built(case).axes:
        assert ax.has_data() or ax.images or ax.collections or ax.get_label() == "<colorbar>"


def test_points_are_the_data_and_panels_the_models():
    figure = built("latent")
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(MODELS)
    for ax in figure.axes:
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("z₁", "z₂")
        (cloud,) = [c for c in ax.collections if isinstance(c, PathCollection)]
        points = cloud.get_offsets()
        colours = cloud.get_facecolors()
        for code, colour in enumerate(_canvas.CLASS_COLOURS):
            mine = np.isclose(colours[:, :3], matplotlib.colors.to_rgb(colour)).all(axis=1)
            np.testing.assert_array_equal(
                sorted(points[mine].tolist()), sorted(Z[code == Y].tolist())
            )
        assert {"1σ", "2σ", "3σ", *"0123456789"} <= {text.get_text() for text in ax.texts}
    line = figure.axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xydata(), LINE)
    assert len(figure.axes[1].lines) == 0


def test_labels_and_colours_follow_the_names():
    figure = plots.latent_map({"vae": Z}, Y, class_names=FASHION)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["0  T-shirt/top", "1  Trouser"]
    figure = built("latent, 5-D")
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("z₅", "z₂")
    assert list(plots.model_colours(MANY)) == list(MANY)
    assert len(set(plots.model_colours(MANY).values())) == len(MANY)
    assert len(set(plots.model_colours([str(k) for k in range(40)]).values())) == 40


def test_far_points_are_counted_rather_than_shown():
    far = np.concatenate([np.tile(Z, (20, 1)), [[1e6, 0.0]]])
    (ax,) = plots.latent_map({"vae": far}).axes
    assert ax.get_title(loc="right") == "1 of 12,001 outside"
    assert ax.get_xlim()[1] < 10


def test_shared_axes_are_equal():
    limits = {ax.get_xlim() for ax in built("latent, eight").axes}
    assert len(limits) == 1
    figure = plots.latent_map({"a": Z, "b": 9 * Z})
    assert figure.axes[0].get_xlim() != figure.axes[1].get_xlim()


def pictures(figure):
    return [np.asarray(image.get_array()) for ax in figure.axes for image in ax.images]


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_pixels_are_the_images(images):
    channels_last = images.transpose(0, 2, 3, 1)
    expected = channels_last[..., 0] if images.shape[1] == 1 else channels_last
    shown = pictures(plots.decoded({str(k): image for k, image in enumerate(images)}, point=[0]))
    np.testing.assert_array_equal(shown, expected)
    height, width = images.shape[2:]
    scale = -(-16 // min(height, width))
    left, right = pictures(plots.reconstructions(images, {"a": images[::-1]}))
    for picture, rows in ((left, expected), (right, expected[::-1])):
        tiles = np.split(picture, len(images))
        for tile, image in zip(tiles, rows, strict=True):
            inner = tile[1:-1:scale, 1:-1:scale][:height, :width]
            np.testing.assert_array_equal(inner, image)


def test_reconstructions_across_are_the_same_turned():
    figure = plots.reconstructions(GREY, {"a": GREY[::-1]}, row_labels="abcde", across=True)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["original", "a"]
    assert [label.get_text() for label in ax.get_xticklabels()] == list("abcde")
    above, below = pictures(figure)
    down = pictures(plots.reconstructions(GREY, {"a": GREY[::-1]}))
    for across, turned in zip((above, below), down, strict=True):
        tiles = np.split(turned, len(GREY), axis=0)
        np.testing.assert_array_equal(np.concatenate(tiles, axis=1), across)
    first, second = (image.get_extent() for image in ax.images)
    assert first[2] < second[3], "a gap between data and what a model made"


def test_names_of_circles_stand_on_the_points():
    (ax,) = plots.latent_map({"vae": Z}, Y).axes[:1]
    names = [text for text in ax.texts if text.get_text().endswith("σ")]
    assert names
    for text in names:
        assert text.get_zorder() > max(part.get_zorder() for part in ax.collections)
        assert text.get_bbox_patch().get_facecolor() == (1, 1, 1, 1), "dashes would be minus signs"


def test_values_outside_the_range_are_clipped():
    (shown,) = pictures(plots.decoded({"a": np.array([[[-1.0, 0.5, 2.0]]])}, point=[0]))
    np.testing.assert_array_equal(shown, [[0.0, 0.5, 1.0]])


def test_the_top_of_the_manifold_has_the_largest_second_coordinate():
    coordinates = np.array([-2.0, 0.0, 1.0])
    grid = np.zeros((3, 3, 1, 5, 5))
    for row, column in np.ndindex(3, 3):  # the image is as bright as z₂, and then z₁, is large
        grid[row, column] = (3 * (2 - row) + column) / 8
    ax = plots.manifold({"vae": grid}, coordinates=coordinates).axes[0]
    (image,) = ax.images
    left, right, bottom, top = image.get_extent()
    assert top < bottom
    assert ax.get_ylim() == (bottom, top)
    labels = {t.get_text(): y for t, y in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
    picture = np.asarray(image.get_array())
    for text, brightness in (("1.00", 6 / 8), ("−2.00", 0.0)):
        row = int(labels[text] / bottom * len(picture))
        assert picture[row, 0] == brightness
    assert labels["1.00"] < labels["−2.00"]
    assert (left, right) == (0, 3)


def test_interpolation_marks_time_and_ends():
    figure = strips(["vae"], GREY, (GREY[0], GREY[4]))
    (ax,) = figure.axes
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels == ["original", "0", "0.25", "0.5", "0.75", "1", "original"]
    assert ax.get_yticklabels()[0].get_text() == "vae\nz = (0.50, −0.25)"
    assert len(ax.images) == 3


def test_curves_are_the_histories():
    histories = {m: [entry(e, k) for e in range(1, 31)] for k, m in enumerate(MODELS)}
    figure = plots.history(histories)
    keys = itertools.product(("elbo", "rate", "distortion"), ("epoch", "seconds"))
    for ax, (term, time) in zip(figure.axes, keys, strict=True):
        for k, model in enumerate(MODELS):
            for split, line in zip(("valid", "train"), ax.lines[2 * k : 2 * k + 2], strict=True):
                expected = [(e[time], e[f"{split}_{term}"]) for e in histories[model]]
                np.testing.assert_array_equal(line.get_xydata(), expected)
                assert line.get_color() == plots.model_colours(MODELS)[model]
                assert (line.get_linestyle() == "-") == (split == "valid")
    assert figure.axes[0].get_ylim()[0] > -200
    assert figure.axes[0].get_title(loc="right") == "start cut off"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [*MODELS, "validation", "training"]


NORMALS = [(0, 1), (1, 2), (0, 1e-3), (0, 1e3), (-300, 0.5), (1e6, 1e-2)]


@pytest.mark.parametrize(("p", "q"), list(itertools.permutations(NORMALS, 2))[::3])
def test_the_drawn_integrand_has_the_area_of_the_divergence(p, q):
    kl = float(closed_form(p, q))
    above, below = plots.kl_densities(p, q, kl=kl).axes
    line = below.lines[0]
    x, y = line.get_xdata(), line.get_ydata()
    area = float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())
    assert area == pytest.approx(kl, rel=1e-4, abs=1e-9)
    for density in above.lines:
        assert np.isfinite(density.get_ydata()).all()
    if above.get_ylabel() == "density":
        mass = above.lines[0].get_ydata().sum() * (x[1] - x[0])
        assert mass == pytest.approx(1, rel=1e-3)


def test_a_divergence_that_is_not_the_area_is_refused():
    with pytest.raises(checks.ArgumentError, match=r"kl = 0.5, but the area .* is 0.443147 nats"):
        plots.kl_densities((0, 1), (1, 2), kl=0.5)


def test_comparison_draws_both_and_floors_zeros():
    curves = {"a": (X, X + 1e-9), "b": (X**2, X**2)}
    above, below = plots.kl_comparison(X, curves, xlabel="x").axes
    drawn_lines = [line.get_ydata() for line in above.lines]
    np.testing.assert_array_equal(drawn_lines, [y for pair in curves.values() for y in pair])
    np.testing.assert_allclose(below.lines[0].get_ydata(), 1e-9, rtol=1e-3)
    np.testing.assert_array_equal(below.lines[1].get_ydata(), 1e-17)
    assert below.get_yscale() == "log"
    assert below.get_title(loc="right") == "zeros drawn at 1e−17"


def test_files_have_the_format_of_their_suffix(tmp_path):
    figure = built("image grid")
    for suffix, start in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        path = plots.save(figure, tmp_path / "new" / f"figure.{suffix}")
        content = path.read_bytes()
        assert content.startswith(start)
        plots.save(CASES["image grid"](), path)
        assert path.read_bytes() == content
    with pytest.raises(checks.ArgumentError, match="suffix = 'bmp' is not known"):
        plots.save(figure, tmp_path / "figure.bmp")
    assert len(list(tmp_path.rglob("*.*"))) == 3
    size = matplotlib.image.imread(io.BytesIO(plots.png_bytes(figure, dpi=50))).shape[:2]
    np.testing.assert_allclose(size, figure.get_size_inches()[::-1] * 50, atol=1)


def test_import_is_light():
    code = "import sys, vaelab.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def backend():
    """Switches the backend for one test."""
    from matplotlib import pyplot

    before = matplotlib.get_backend()
    yield pyplot.switch_backend
    pyplot.close("all")
    pyplot.switch_backend(before)


def test_show_without_a_screen_says_what_to_do(backend):
    backend("agg")
    with pytest.raises(checks.ArgumentError, match="use --save DIR"):
        plots.show([CASES["image grid"]()])
    assert not matplotlib.pyplot.get_fignums()


def test_show_opens_a_window_a_figure(backend, monkeypatch):
    backend("agg")
    seen = []
    figures = [CASES["image grid"](), CASES["image grid"]()]
    with monkeypatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "required_interactive_framework", "qt")
        patch.setattr(matplotlib.pyplot, "show", lambda: seen.extend(open_figures()))
        plots.show(figures)
    assert seen == figures


def open_figures():
    from matplotlib._pylab_helpers import Gcf

    return [manager.canvas.figure for manager in Gcf.get_all_fig_managers()]


NAN = np.where(np.arange(1200).reshape(600, 2) == 7, np.nan, Z)
ERRORS = {
    r"latents\['b'\] has shape \(3, 2\), but it must be \(600, D\)\.": lambda: plots.latent_map(
        {"a": Z, "b": Z[:3]}
    ),
    r"latents\['a'\] has 1 values that are NaN": lambda: plots.latent_map({"a": NAN}),
    "latents is empty": lambda: plots.latent_map({}),
    "latents is a ndarray": lambda: plots.latent_map(Z),
    r"y has shape \(9,\), but it must be \(600,\)": lambda: plots.latent_map({"a": Z}, Y[:9]),
    "y has type float64, but it must hold whole": lambda: plots.latent_map({"a": Z}, Y / 2),
    r"y has classes from 0 to 9, but class_names has 2 names": lambda: plots.latent_map(
        {"a": Z}, Y, class_names=["x", "y"]
    ),
    r"dims = \(0, 6\)": lambda: plots.latent_map({"a": np.tile(Z, 3)}, dims=(0, 6)),
    "paths = 'b' is not known": lambda: plots.latent_map({"a": Z}, paths={"b": LINE}),
    r"paths\['a'\] has shape \(9, 1\)": lambda: plots.latent_map(
        {"a": Z}, paths={"a": LINE[:, :1]}
    ),
    r"images has shape \(5, 1, 9\), but it must be \(N, C, H, W\)": lambda: plots.image_grid(
        GREY[..., 0]
    ),
    "images has type uint8, .* divide by 255": lambda: plots.image_grid(GREY.astype(np.uint8)),
    "C, the third axis from the end, must be 1 or 3": lambda: plots.image_grid(GREY.repeat(2, 1)),
    r"\(0, 1, 2, 2\), but it must be .* and not empty": lambda: plots.image_grid(
        np.zeros((0, 1, 2, 2))
    ),
    "columns = 0": lambda: plots.image_grid(GREY, columns=0),
    r"reconstructed\['a'\] has shape \(5, 3, 6, 8\), but it must be \(5, 1, 9, 7\)": (
        lambda: plots.reconstructions(GREY, {"a": COLOUR})
    ),
    "row_labels has 1 texts": lambda: plots.reconstructions(GREY, {"a": GREY}, row_labels=["x"]),
    r"point has shape \(\)": lambda: plots.decoded({"a": GREY[0]}, point=3.0),
    "strips has 1 step": lambda: strips(["a"], GREY[:1]),
    "starts has no point for 'a'": lambda: plots.interpolation({"a": GREY}, starts={}, ends={}),
    r"coordinates has shape \(2,\), but it must be \(4,\)": lambda: plots.manifold(
        {"a": GRID}, coordinates=[0, 1]
    ),
    "coordinates is not ascending": lambda: plots.manifold({"a": GRID}, coordinates=[3, 2, 1, 0]),
    r"grids\['a'\] has shape": lambda: plots.manifold({"a": GRID[:2]}, coordinates=[0, 1]),
    r"histories\['a'\] lacks valid_rate": lambda: plots.history(
        {"a": [{k: v for k, v in entry(1).items() if k != "valid_rate"}]}
    ),
    r"histories\['a'\] train_elbo has 1 values that are NaN": lambda: plots.history(
        {"a": [entry(1) | {"train_elbo": np.nan}]}
    ),
    r"histories\['a'\] epoch has shape \(0,\)": lambda: plots.history({"a": []}),
    "q's standard deviation = 0": lambda: plots.kl_densities((0, 1), (0, 0), kl=1.0),
    r"curves\['a'\] has shape \(2, 3\), but it must be \(2, 9\)": lambda: plots.kl_comparison(
        X, {"a": (X[:3], X[:3])}, xlabel="x"
    ),
    "dpi = 0": lambda: plots.png_bytes(CASES["image grid"](), dpi=0),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_are_one_line_that_names_the_argument(message):
    with pytest.raises(checks.ArgumentError, match=message) as caught:
        ERRORS[message]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", range(1, 40))
@pytest.mark.parametrize("most", [2, 7, 11])
def test_thinned_positions_are_few_symmetric_and_have_both_ends(count, most):
    kept = _canvas.thinned(count, most)
    assert len(kept) <= max(most, 1)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert kept == sorted(set(kept))
    assert count <= most or kept == [count - 1 - place for place in reversed(kept)]


def test_mosaic_keeps_each_pixel_once():
    grid = RNG.random((2, 3, 3, 17, 20))
    picture = _images._mosaic(grid, gap=False)
    assert picture.shape == (2 * 17, 3 * 20, 3)
    np.testing.assert_array_equal(picture[17 + 4, 40 + 5], grid[1, 2, :, 4, 5])


def test_arguments_are_not_changed():
    given = GREY.copy()
    plots.image_grid(given)
    np.testing.assert_array_equal(given, GREY)
    sizes = {"N": 3}
    with pytest.raises(checks.ArgumentError):
        _arrays.array("x", np.zeros((4, 2)), "ND", sizes)
    assert sizes == {"N": 3}


def test_a_figure_does_not_move_from_save_to_save():
    figure = built("densities")
    content = plots.png_bytes(figure, dpi=60)
    plots.png_bytes(figure, dpi=90)
    assert plots.png_bytes(figure, dpi=60) == content


def test_prior_circles_can_be_drawn_for_some_models_only() -> None:
    z = np.random.default_rng(0).normal(size=(200, 2))
    figure = plots.latent_map({"vae": z, "vamp": z}, prior_circles=["vae"])
    drawn = [any("σ" in text.get_text() for text in ax.texts) for ax in figure.axes]
    assert drawn == [True, False]


def test_scores_stand_where_their_values_are():
    figure = plots.scores({"vae": scored(), "conv": scored(rate=9.0, distortion=128.0)})
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes}
    assert "Factors in the code" not in panels, "no model has them"
    bounds = panels["Bounds"]
    bars = [bar.get_segments()[0][:, 0] for bar in bounds.collections]
    np.testing.assert_allclose(bars[0], [-140 - 1.96 * 0.5, -140 + 1.96 * 0.5])
    np.testing.assert_allclose(bars[1], [-138 - 1.96, -138 + 1.96])
    points = [line.get_xydata()[0].tolist() for line in panels["Rate and distortion"].lines[:2]]
    assert points == [[7.0, 133.0], [9.0, 128.0]]
    equal = panels["Rate and distortion"].lines[2:]
    assert sorted(sum(line.get_xy1()) for line in equal) == [137.0, 140.0]
    assert {line.get_slope() for line in equal} == {-1}
    bars = panels["Parts of the rate"].patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars[:2]] == [(0.0, 5.0), (5.0, 2.0)]
    labels = [label.get_text() for label in panels["The code as a map"].get_yticklabels()]
    heights = dict(zip(labels, panels["The code as a map"].get_yticks(), strict=True))
    drawn = {round(line.get_ydata()[0]): line.get_xdata()[0] for line in
             panels["The code as a map"].lines[:5]}  # fmt: skip
    assert drawn[heights["silhouette"]] == -0.2
    assert drawn[heights["15 neighbours"]] == 0.8
    assert drawn[heights["trustworthiness"]] == 0.95
    assert drawn[heights["continuity"]] == 0.9
    assert drawn[heights["distance corr."]] == -0.3
    assert panels["The code as a map"].get_xlim()[0] < -0.2
    assert panels["Samples"].get_xlim()[1] >= 1.6
