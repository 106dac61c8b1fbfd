"""Pictures: every pixel where it belongs, labels where they belong, files that can be opened."""

import subprocess
import sys

import pytest
import torch
from examples import normal
from PIL import Image

from flowlib.plotting import animate, draw_samples, loss_curve, picture_grid, point_cloud, save_figure, tile


def test_tiles_lie_row_by_row_with_gaps_of_background():
    values = torch.tensor([-1.0, -0.5, 0.0, 0.5, 9.0])
    picture = tile(values.reshape(5, 1, 1, 1).expand(5, 1, 2, 3), columns=2)
    assert picture.shape == (3 * 3 - 1, 2 * 4 - 1, 1)
    assert picture[::3, ::4, 0].tolist() == [[0.0, 0.25], [0.5, 0.75], [1.0, 0.0]]  # 9 is clipped
    assert torch.equal(picture[:2, :3], torch.zeros(2, 3, 1))
    assert torch.equal(picture[3:5, 4:7], torch.full((2, 3, 1), 0.75))
    assert (picture[2] == 0).all()
    assert (picture[:, 3] == 0).all()


def test_colours_stay_in_their_channel():
    images = torch.stack([torch.full((4, 4), value) for value in (-1.0, 0.0, 1.0)])[None]
    assert tile(images, 1)[0, 0].tolist() == [0.0, 0.5, 1.0]
    assert picture_grid(images).axes[0].images[0].get_array().shape == (4, 4, 3)


def test_a_grid_labels_its_rows_in_their_middle():
    axes = picture_grid(torch.zeros(6, 1, 8, 8), columns=3, rows=["a", "b"], title="two rows").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_yticks()[0] == pytest.approx(3.5, abs=1)
    assert axes.get_yticks()[1] == pytest.approx(12.5, abs=1)
    assert axes.get_title(loc="left") == "two rows"


def test_samples_get_labels_where_a_row_has_one():
    def labels(y, columns=2):
        axes = draw_samples(torch.zeros(4, 1, 4, 4), y, columns=columns).axes[0]
        return [label.get_text() for label in axes.get_yticklabels()]

    assert labels(torch.tensor([7, 7, 2, 2])) == ["7", "2"]
    assert labels(torch.tensor([7, 2, 7, 2])) == []
    assert labels(None) == []


def test_points_are_drawn_where_they_are():
    points = normal(0, 50, 2).float()
    shown = point_cloud(points, torch.arange(50) % 3).axes[0].collections[0]
    assert torch.equal(torch.as_tensor(shown.get_offsets().data), points.double())
    assert len({tuple(colour) for colour in shown.get_facecolors()}) == 3


def test_a_loss_curve_shows_the_losses(tmp_path):
    metrics = [{"step": k, "loss": 1 / k, "lr": 0.1} for k in range(1, 10)]
    figure = loss_curve(metrics)
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == list(range(1, 10))
    assert line.get_ydata()[3] == 0.25
    save_figure(figure, tmp_path / "new" / "loss.png")
    assert Image.open(tmp_path / "new" / "loss.png").size[0] > 300


def test_a_figure_that_cannot_be_drawn_leaves_the_file_that_is_there(tmp_path, monkeypatch):
    file = tmp_path / "loss.png"
    file.write_bytes(b"an older figure")
    figure = loss_curve([{"step": 1, "loss": 1.0, "lr": 0.1}])

    def fail(file, **options):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="no space left"):
        save_figure(figure, file)
    assert file.read_bytes() == b"an older figure"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("shape", [(5, 6, 1, 4, 4), (5, 30, 2)])
def test_an_animation_has_a_frame_for_each_state_and_rests_on_the_last(tmp_path, shape):
    states = normal(0, *shape).float()
    animate(states, tmp_path / "a.gif", columns=3, seconds=1.0)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 5
        assert image.info["loop"] == 0
        first = image.convert("RGB").tobytes()
        image.seek(4)
        assert image.info["duration"] == 2000
        assert image.convert("RGB").tobytes() != first


def test_samples_that_have_become_nan_are_drawn_as_background():
    assert tile(torch.full((1, 1, 2, 2), float("nan")), 1).sum() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tile(torch.zeros(2, 4, 4), 2), "images must have shape"),
        (lambda: tile(torch.zeros(2, 1, 4, 4), 0), "columns"),
        (lambda: picture_grid(torch.zeros(4, 1, 4, 4), columns=2, rows=["a"]), "rows must have a label for each"),
        (lambda: point_cloud(torch.zeros(4, 3)), "points must have shape"),
        (lambda: draw_samples(torch.zeros(4, 2), torch.zeros(3)), "labels must have shape"),
        (lambda: loss_curve([]), "metrics must have at least one entry"),
        (lambda: animate(torch.zeros(1, 4, 2), "a.gif"), "states must have shape"),
        (lambda: animate(torch.zeros(4, 4, 4, 4), "a.gif"), "states must have shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_figure_is_shown_by_a_fresh_kernel() -> None:
    """Without pyplot no one has told the kernel how a figure looks."""
    code = (
        "import sys, torch\n"
        "from IPython.core.formatters import DisplayFormatter\n"
        "from flowlib.plotting import loss_curve, picture_grid, point_cloud\n"
        "metrics = [{'step': 1, 'loss': 1.0, 'lr': 0.1}]\n"
        "for figure in (picture_grid(torch.zeros(2, 1, 4, 4)), point_cloud(torch.zeros(2, 2)), loss_curve(metrics)):\n"
        "    print(DisplayFormatter().format(figure)[0]['image/png'][:4])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    pytest.importorskip("IPython")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout.splitlines() == [str(b"\x89PNG")] * 3, told.stderr


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_that_are_neither_grey_nor_rgb_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=r"^images must have shape \(N, 1 or 3, H, W\)"):
        picture_grid(torch.zeros(3, channels, 4, 4))
