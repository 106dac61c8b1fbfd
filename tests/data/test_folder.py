"""Own images: real files that Pillow made, read, split, captioned and refused."""

import hashlib
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowlib import data
from flowlib.data import DataError, Spec, folder

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(seed: int = 0, mode: str = "L", size: tuple[int, int] = (6, 4)) -> Image.Image:
    """Random pixels; `size` is width and height, as Pillow counts."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def fill(root: Path, labels: dict[str, int], mode: str = "L", ending: str = ".png") -> Path:
    """Folders of so many pictures each, "0.png", "1.png" ..., all different; the label "" is the folder itself."""
    for i, (label, count) in enumerate(labels.items()):
        (root / label).mkdir(parents=True, exist_ok=True)
        for j in range(count):
            picture(1000 * i + j, mode).save(root / label / f"{j}{ending}")
    return root


def whole(root: Path, **options: int) -> dict[tuple[float, ...], int]:
    """The images of both parts and what their labels are."""
    parts = [folder.load(root, split, **options) for split in ("train", "test")]
    return {
        tuple(x.flatten().tolist()): int(y) for part in parts for x, y in zip(part.images, part.labels, strict=True)
    }


def key(path: Path) -> tuple[float, ...]:
    """The numbers that a grey file should be read as."""
    return tuple((torch.from_numpy(np.array(Image.open(path))) / 127.5 - 1).flatten().tolist())


def only(path: Path, size: int | None = None) -> torch.Tensor:
    """The pixels 0 ... 255 of one file, read from a folder of two copies of it."""
    other = path.with_name(f"copy-of-{path.name}")
    other.write_bytes(path.read_bytes())
    images = folder.load(path.parent, size=size).images
    return ((images[0] + 1) * 127.5).round()


def test_sub_folders_are_the_labels(tmp_path: Path) -> None:
    fill(tmp_path, {"dogs": 30, "cats": 20})
    train, test = folder.load(tmp_path), folder.load(str(tmp_path), "test")
    assert train.spec == test.spec == Spec((1, 4, 6), 2, 256, names=("cats", "dogs"))
    assert train.images.dtype == torch.float32
    assert train.images.is_contiguous()
    assert train.judge is None
    assert Path(train.name) == tmp_path
    assert len(train) + len(test) == 50
    found = whole(tmp_path)
    assert len(found) == 50
    for label, name in enumerate(train.names):
        for path in (tmp_path / name).iterdir():
            assert found[key(path)] == label


def test_images_without_sub_folders_have_no_label(tmp_path: Path) -> None:
    fill(tmp_path, {"": 5}, "RGB")
    (tmp_path / "notes").mkdir()
    train = folder.load(tmp_path)
    assert train.spec == Spec((3, 4, 6), 0, 256, columns=("x",))
    assert len(train) + len(folder.load(tmp_path, "test")) == 5


def test_what_belongs_to_no_data_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3, ".cache": 2, "__MACOSX": 2})
    (tmp_path / "a" / ".hidden.png").write_text("no image")
    (tmp_path / "a" / "labels.csv").write_text("no image")
    (tmp_path / "readme.txt").write_text("no caption")
    (tmp_path / "b" / "__MACOSX").mkdir()
    assert folder.load(tmp_path).names == ("a", "b")
    assert len(whole(tmp_path)) == 6


@pytest.mark.parametrize("ending", [".png", ".PNG", ".bmp", ".gif", ".tif", ".Tiff", ".jpg", ".jpeg", ".webp"])
def test_each_kind_of_file_is_read(tmp_path: Path, ending: str) -> None:
    plain = Image.new("RGB", (16, 16), (200, 40, 90))
    plain.save(tmp_path / f"a{ending}")
    assert (only(tmp_path / f"a{ending}") - torch.tensor([200, 40, 90.0])[:, None, None]).abs().max() <= 3  # lossy


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P"])
def test_images_are_grey_if_all_files_are(tmp_path: Path, mode: str) -> None:
    fill(tmp_path, {"": 20})
    grey = picture(7)
    grey.convert(mode).save(tmp_path / "other.png")
    assert folder.load(tmp_path).shape == (1, 4, 6)
    if mode != "1":
        images = torch.cat([folder.load(tmp_path, split).images for split in ("train", "test")])
        assert (images == torch.from_numpy(np.array(grey)) / 127.5 - 1).flatten(1).all(1).any()


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_one_coloured_file_in_either_part_makes_all_rgb(tmp_path: Path, mode: str, part: str) -> None:
    fill(tmp_path, {"": 12})
    names = [path for path in tmp_path.iterdir() if (folder._hash(Path(path.name)) < 0.1) == (part == "test")]
    picture(3, "RGB").convert(mode).save(names[0])
    for split in ("train", "test"):
        images = folder.load(tmp_path, split).images
        assert images.shape[1:] == (3, 4, 6)
        coloured = (images != images[:, :1]).flatten(1).any(1)
        assert int(coloured.sum()) == (split == part)


def test_what_is_transparent_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1), (*RED, 255))
    image.putpixel((1, 0), (*RED, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))  # one fifth of black
    image.save(tmp_path / "a.png")
    assert only(tmp_path / "a.png")[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255], [204, 204, 204]]


def test_a_colour_that_stands_for_transparent_is_laid_on_white(tmp_path: Path) -> None:
    for name, mode, clear, expected in [("p", "L", 7, [[[255, 9]]]), ("q", "RGB", (1, 2, 3), [[[255, 9]]] * 3)]:
        (tmp_path / name).mkdir()
        image = Image.new(mode, (2, 1), clear)
        image.putpixel((1, 0), 9 if mode == "L" else (9, 9, 9))
        image.save(tmp_path / name / "a.png", transparency=clear)
        assert only(tmp_path / name / "a.png").squeeze().reshape(-1, 1, 2).tolist() == expected


def test_the_rotation_that_a_camera_notes_is_carried_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the right side of the stored image is the top
    image = Image.new("RGB", (32, 16), BLUE)
    image.paste(RED, (0, 0, 16, 16))
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    upright = only(tmp_path / "a.jpg")
    assert upright.shape == (3, 32, 16)
    assert upright[:, 4].mean(1).argmax() == 0  # red is above
    assert upright[:, 28].mean(1).argmax() == 2


def test_a_damaged_note_of_a_camera_is_no_matter(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02"  # it ends where two entries should follow
    picture(size=(16, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert only(tmp_path / "a.jpg").shape == (1, 16, 16)
    assert not recwarn.list


def test_16_bits_become_8(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 128, 129, 257, 65535 - 128, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert only(tmp_path / "a.png").tolist() == [[[0, 0, 1, 1, 255, 255]]]


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    assert only(tmp_path / "a.gif")[:, 0, 0].tolist() == list(RED)


def test_size_scales_by_the_shorter_side_and_cuts_the_middle(tmp_path: Path) -> None:
    image = Image.new("RGB", (400, 200), BLUE)
    image.paste(RED, (100, 0, 300, 200))
    for ending in ("png", "jpg"):  # a JPEG is decoded at a fraction of its size
        (tmp_path / ending).mkdir()
        image.save(tmp_path / ending / f"a.{ending}", quality=100)
        small = only(tmp_path / ending / f"a.{ending}", size=16)
        assert small.shape == (3, 16, 16)
        assert (small[:, :, 2:-2] - torch.tensor(RED)[:, None, None]).abs().max() < 8


def test_a_jpeg_that_is_shrunk_keeps_its_detail(tmp_path: Path) -> None:
    full = picture(size=(48, 48)).resize((400, 400), Image.Resampling.NEAREST)
    full.save(tmp_path / "a.jpg", quality=100)
    expected = torch.from_numpy(np.array(full.resize((48, 48), Image.Resampling.BICUBIC))).float()
    error = (only(tmp_path / "a.jpg", size=48) - expected).abs().mean()
    assert error < 4  # 2.3; decoded at an eighth of its size, 50 pixels for 48, it would be 8.9


def test_size_makes_one_size_of_many(tmp_path: Path) -> None:
    for i, size in enumerate([(8, 8), (5, 9), (20, 3)]):
        picture(i, size=size).save(tmp_path / f"{i}.png")
    assert folder.load(tmp_path, size=4).shape == (1, 4, 4)


def test_captions_lie_beside_the_images(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 15, "b": 15})
    texts = {}
    for path in tmp_path.glob("*/*.png"):
        texts[key(path)] = f"{path.parent.name} é{path.stem}"
        path.with_suffix(".txt").write_text(f"\ufeff {path.parent.name} é{path.stem}\n", "utf-8")
    for split in ("train", "test"):
        part = folder.load(tmp_path, split)
        batch = part.batch(torch.arange(len(part)))
        assert part.spec.columns == ("x", "label", "caption")
        assert [texts[tuple(x.flatten().tolist())] for x in batch["x"]] == batch["caption"]
        assert part.spec.words == tuple(sorted(["a", "b", *(f"é{i}" for i in range(15))]))  # those of both parts
        assert part.spec.length == 3


def test_the_split_is_a_tenth_by_the_hash_of_the_name(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 400, "b": 30})
    test = folder.load(tmp_path, "test")
    expected = set()
    for path in tmp_path.glob("*/*.png"):
        digest = hashlib.sha256(path.relative_to(tmp_path).as_posix().encode()).hexdigest()
        if int(digest[:16], 16) < 0.1 * 2**64:
            expected.add(key(path))
    assert {tuple(x.flatten().tolist()) for x in test.images} == expected
    assert test.labels.bincount().tolist() == [37, 5]
    # The order is that of the hashes: the first images are not those of the first label.
    assert folder.load(tmp_path).labels[:50].unique().tolist() == [0, 1]


def test_the_split_has_a_name_in_one_spelling(tmp_path: Path) -> None:
    assert folder._hash(Path("caf\u00e9/1.png")) == folder._hash(Path("cafe\u0301/1.png"))


def test_a_new_file_moves_no_other(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 60, "b": 60})
    before = {tuple(x.flatten().tolist()) for x in folder.load(tmp_path, "test").images}
    picture(5000).save(tmp_path / "a" / "new.png")
    picture(5001).save(tmp_path / "b" / "newer.png")
    after = {tuple(x.flatten().tolist()) for x in folder.load(tmp_path, "test").images}
    assert before <= after


@pytest.mark.parametrize(
    ("hashes", "test"),
    [
        ([0.5, 0.09, 0.7, 0.01], {1, 3}),
        ([0.5, 0.3, 0.7], {1}),  # none is below a tenth: the lowest
        ([0.05, 0.03, 0.07], {0, 1}),  # all are: the highest is learned from
        ([0.1, 0.2], {0}),
    ],
)
def test_each_part_has_a_file_of_each_label(hashes: list[float], test: set[int]) -> None:
    files = [folder.File(Path(f"{i}.png"), 0) for i in range(len(hashes))]
    assert folder._choose_tests(files, hashes) == test
    other = [folder.File(Path("x.png"), 1), folder.File(Path("y.png"), 1)]
    assert folder._choose_tests(files + other, [*hashes, 0.01, 0.02]) == test | {len(files)}


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "1", {"a": 9, "b": 9}), fill(tmp_path / "2", {"b": 9, "a": 9})
    assert folder.load(first).digest() != folder.load(second).digest()  # the pictures of a and b are exchanged
    third = fill(tmp_path / "3", {"a": 9, "b": 9})
    assert folder.load(first).digest() == folder.load(third).digest()
    (third / "a" / "1.png").write_bytes((third / "b" / "2.png").read_bytes())
    changed = [folder.load(first, split).digest() != folder.load(third, split).digest() for split in ("train", "test")]
    assert changed == [True, False]  # it is an image of the training part


def png(side: int) -> bytes:
    """A small file that announces side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


BAD_FILES: list[tuple[Callable[[Path], object], str]] = [
    (cut, r"cannot be read \(.*runcated"),
    (lambda path: path.write_bytes(b""), "is no image, or one that is damaged at its start"),
    (lambda path: path.write_text("hello"), "is no image, or one that is damaged at its start"),
    (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n"), "is no image"),
    (lambda path: path.write_bytes(png(10_000)), r"cannot be read \(Image size \(100000000 pixels\) exceeds limit"),
    (lambda path: path.write_bytes(png(30_000)), r"cannot be read \(Image size \(900000000 pixels\) exceeds limit"),
    (lambda path: (path.unlink(), path.symlink_to("nowhere.png")), "is no file that can be read"),
    (
        lambda path: Image.fromarray(np.ones((4, 6), dtype=np.float32)).save(path, format="TIFF"),
        r"cannot be read \(its pixels are floating-point numbers, expected 8 or 16 bits\)",
    ),
    (
        lambda path: Image.fromarray(np.full((4, 6), 70_000, dtype=np.int32)).save(path, format="TIFF"),
        r"cannot be read \(its pixels lie in 70000 ... 70000, expected 8 or 16 bits\)",
    ),
    (lambda path: picture(size=(6, 5)).save(path), r"is 6 x 5 pixels, but .*0.png is 6 x 4: all must have one size"),
]


@pytest.mark.parametrize(("spoil", "said"), BAD_FILES)
def test_a_bad_file_is_one_line_that_names_it(
    tmp_path: Path, spoil: Callable[[Path], object], said: str, recwarn: pytest.WarningsRecorder
) -> None:
    fill(tmp_path, {"a": 12, "b": 12})
    bad = tmp_path / "b" / "7.png"
    spoil(bad)
    with pytest.raises(DataError, match=said) as caught:
        folder.load(tmp_path)
    assert str(caught.value).startswith(str(bad))
    assert "\n" not in str(caught.value)
    assert not recwarn.list


@pytest.mark.parametrize("ending", [".jpg", ".bmp", ".gif", ".webp", ".tif"])
def test_a_truncated_file_of_each_kind_is_refused(tmp_path: Path, ending: str) -> None:
    for i in range(3):
        picture(i, "RGB", (40, 40)).save(tmp_path / f"{i}{ending}")
    cut(tmp_path / f"1{ending}")
    with pytest.raises(DataError, match=f"1{ending} cannot be read") as caught:
        folder.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_bad_test_image_is_found_before_the_training(tmp_path: Path) -> None:
    fill(tmp_path, {"": 20})
    bad = next(path for path in sorted(tmp_path.iterdir()) if folder._hash(Path(path.name)) < 0.1)
    cut(bad)
    with pytest.raises(DataError, match=str(bad)):
        folder.load(tmp_path)
    with pytest.raises(DataError, match=str(bad)):
        folder.load(tmp_path, "test")


def test_the_test_part_can_be_had_without_decoding_the_rest(tmp_path: Path) -> None:
    fill(tmp_path, {"": 20})
    cut(next(path for path in sorted(tmp_path.iterdir()) if folder._hash(Path(path.name)) >= 0.1))
    assert len(folder.load(tmp_path, "test")) >= 1


def nothing(root: Path) -> None:
    pass


BAD_FOLDERS: list[tuple[Callable[[Path], object], str]] = [
    (lambda root: root.rmdir(), r"^there is no folder ROOT$"),
    (lambda root: (root.rmdir(), root.write_text("")), r"^ROOT is a file, no folder$"),
    (nothing, r"^ROOT holds no images: no file in it ends in .png, .jpg"),
    (lambda root: (root / "notes.md").write_text("x"), "^ROOT holds no images"),
    (lambda root: (root / "a").mkdir(), "^ROOT holds no images"),
    (lambda root: fill(root, {"a": 3}), r"^ROOT has one label only, a: add another, or give ROOT/a as the folder$"),
    (lambda root: fill(root, {"a": 3, "b": 1}), r"^ROOT/b has too few images: 1, "),
    (lambda root: fill(root, {"a": 3, "b": 0}), r"^ROOT/b has too few images: 0, |^ROOT has one label only"),
    (lambda root: fill(root, {"a": 3, "b": 0, "c": 3}), r"^ROOT/b has too few images: 0, "),
    (lambda root: fill(root, {"": 1}), r"^ROOT has too few images: 1, "),
    (lambda root: fill(root, {"": 2, "a": 2}), r"^ROOT/0.png lies beside ROOT/a, a folder with images"),
    (lambda root: fill(root, {"train/a": 2, "test/a": 2}), r"^ROOT/test/a is a folder in that of a label"),
    (lambda root: fill(root, {"a": 2, "b": 2, "b/c": 2}), r"^ROOT/b/c is a folder in that of a label"),
]


@pytest.mark.parametrize(("make", "said"), BAD_FOLDERS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_bad_folder_is_one_line_that_names_it(
    tmp_path: Path, make: Callable[[Path], object], said: str, split: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    with pytest.raises(DataError, match=said.replace("ROOT", str(root))) as caught:
        folder.load(root, split)
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=f"^{tmp_path} cannot be read \\(Permission denied\\)$"):
        folder.load(tmp_path)


def test_a_missing_caption_is_named_and_so_is_one_that_is_no_text(tmp_path: Path) -> None:
    fill(tmp_path, {"": 5})
    for i in (0, 1, 3, 4):
        (tmp_path / f"{i}.txt").write_text("some")
    with pytest.raises(DataError, match=rf"^{tmp_path}/2.png has no caption: 4 of 5 images have a .txt file beside"):
        folder.load(tmp_path)
    (tmp_path / "2.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=rf"^{tmp_path}/2.txt cannot be read \("):
        folder.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"split": "valid"}, "split must be one of train, test"),
        ({"size": 0}, "size must be an integer >= 1"),
        ({"size": 1.5}, "size must be an integer >= 1"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        folder.load(tmp_path, **options)


def test_open_data_takes_a_name_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, {"moons": 4, "pets": 4})
    assert data.open_data("moons", "test").shape == (2,)  # the name comes before the folder
    for text in ("./moons", "pets", str(tmp_path / "pets"), "pets/"):
        assert data.open_data(text).shape == (1, 4, 6)
        assert len(data.open_data(text, "test")) == 1
    assert data.open_data("./moons").name not in data.available()
    with pytest.raises(
        DataError, match=r"^there is no data set and no folder 'pest': give one of digits, .* or the path"
    ):
        data.open_data("pest")
    with pytest.raises(DataError, match="is a file, no folder"):
        data.open_data("pets/0.png")
    for text in ("", "a\0b", "x" * 5000):
        with pytest.raises(DataError, match="there is no data set and no folder"):
            data.open_data(text)
    with pytest.raises(ValueError, match="split must be one of train, test"):
        data.open_data("pets", "valid")


def test_reading_is_quiet(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    with caplog.at_level(logging.WARNING):
        folder.load(tmp_path)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
