"""What every data set promises: columns by name, a digest of them, and a spec that travels as JSON."""

import dataclasses
import hashlib
import json
import re

import pytest
import torch

from flowlib.data import Dataset, Spec, load


def small() -> Dataset:
    """Three samples with every kind of column."""
    return Dataset(
        torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]),
        torch.tensor([0, 2, 1]),
        captions=["a", "b c", ""],
        names=["x", "y", "z"],
        more={"mask": torch.tensor([[True], [False], [True]])},
    )


def test_a_batch_is_an_index_into_each_column() -> None:
    batch = small().batch(torch.tensor([2, -2, 2]))
    assert list(batch) == ["x", "label", "caption", "mask"]
    assert batch["x"].tolist() == [[4, 5], [2, 3], [4, 5]]
    assert batch["label"].tolist() == [1, 2, 1]
    assert batch["caption"] == ["", "b c", ""]
    assert batch["mask"].tolist() == [[True], [False], [True]]


def test_a_batch_is_new_tensors() -> None:
    train = load("digits")
    x = train.batch(torch.tensor([3, 0, 3, 1499]))["x"]
    assert torch.equal(x[1], train.images[0])
    x.zero_()
    assert train.images[3].abs().sum() > 0


def test_the_positions_of_old_go_on_working_and_the_rest_has_defaults() -> None:
    images, labels = torch.zeros(2, 1, 3, 3), torch.tensor([0, 1])
    full = Dataset(images, labels, 4, "mine", 17)
    assert (full.classes, full.name, full.levels, full.shape, len(full)) == (4, "mine", 17, (1, 3, 3), 2)
    assert Dataset(images, labels).classes == 2
    bare = Dataset(images)
    assert (bare.labels, bare.classes, bare.name, bare.levels, bare.judge) == (None, 0, "own", None, None)
    assert list(bare.batch(torch.tensor([1]))) == ["x"]


def test_to_moves_every_tensor_and_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    full, moved = small(), []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: moved.append((tensor.dtype, device)) or tensor)
    there = full.to("cuda:1")
    assert moved == [(dtype, "cuda:1") for dtype in (torch.int64, torch.bool, torch.float32)]
    assert (there.spec, there.captions, there.name) == (full.spec, full.captions, full.name)


def test_a_spec_says_what_there_is_and_travels_as_json() -> None:
    spec = small().spec
    assert spec == Spec(
        (2,), 3, None, ("x", "label", "caption", "mask"), ("x", "y", "z"), words=("a", "b", "c"), length=3
    )
    assert Spec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec
    assert load("digits").spec == Spec((1, 8, 8), 10, 17)
    assert Dataset(torch.zeros(2, 5)).spec == Spec((5,), 0, columns=("x",))


def test_both_parts_of_a_set_may_share_the_words_of_their_captions() -> None:
    test = dataclasses.replace(small(), words=["a", "b", "c", "d"], length=7)
    assert (test.spec.words, test.spec.length) == (("a", "b", "c", "d"), 7)
    assert test.to("cpu").spec == test.spec


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shape": "12"}, "shape must be a sequence of int, got '12'"),
        ({"shape": (1, 0)}, "shape must be an integer >= 1, got 0"),
        ({"shape": (1.0, 8)}, "shape must be a sequence of int"),
        ({"classes": -1}, "classes must be an integer >= 0"),
        ({"levels": 1}, "levels must be an integer >= 2"),
        ({"length": -1}, "length must be an integer >= 0"),
        ({"columns": ("label", "x")}, "columns must be different names, 'x' the first"),
        ({"columns": ("x", "label", "label")}, "columns must be different names"),
        ({"columns": ("x",)}, "columns must have 'label' if there are classes"),
        ({"classes": 0}, "columns must have 'label' if there are classes; got .*, 0"),
        ({"names": ("a",)}, "names must be 2 different names"),
        ({"names": ("a", "a")}, "names must be 2 different names"),
        ({"names": (0, 1)}, "names must be a sequence of str"),
    ],
)
def test_a_bad_spec_is_refused(change: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(Spec((1, 8, 8), 2), **change)


def test_a_label_is_found_by_its_name_or_its_number() -> None:
    spec = Spec((1, 8, 8), 3, names=("2", "b\u00e4r", "cats"))
    names = ["2", "b\u00e4r", "ba\u0308r", "cats", "0", "1"]  # a name goes before a number
    assert [spec.label(name) for name in names] == [0, 1, 1, 2, 0, 1]
    assert [Spec((1, 8, 8), 3).label(name) for name in "012"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("names", "given", "says"),
    [
        (("a", "b"), "c", "label must be one of a, b, or a number in 0 ... 1; got 'c'"),
        (("a", "b"), "2", "label must be one of a, b, or a number in 0 ... 1; got '2'"),
        ((), "c", "label must lie in 0 ... 1, got 'c'"),
        ((), "2", "label must lie in 0 ... 1, got 2"),
        ((), "-1", "label must lie in 0 ... 1, got -1"),
    ],
)
def test_a_label_that_there_is_not_is_refused(names: tuple[str, ...], given: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        Spec((1, 8, 8), 2, names=names).label(given)


def test_data_without_labels_have_none_that_could_be_named() -> None:
    with pytest.raises(ValueError, match="label must not be given for data without labels, got '0'"):
        Spec((2,), 0, columns=("x",)).label("0")


def test_the_digest_is_the_same_everywhere() -> None:
    content = [
        b'["x", "y", "z"]',
        b"\nx torch.float32 (3, 2)\n",
        b"".join(bytes([0, 0, *half]) for half in [(0, 0), (128, 63), (0, 64), (64, 64), (128, 64), (160, 64)]),
        b"\nlabel torch.int64 (3,)\n",
        bytes([0] * 8 + [2] + [0] * 7 + [1] + [0] * 7),
        b'\ncaption ["a", "b c", ""]',
        b"\nmask torch.bool (3, 1)\n",
        bytes([1, 0, 1]),
    ]
    assert small().digest() == hashlib.sha256(b"".join(content)).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"images": torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.5]])},
        {"images": torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]).double()},
        {"labels": torch.tensor([0, 2, 2])},
        {"labels": None, "classes": None, "names": ()},
        {"captions": ["a", "b", "c"]},
        {"captions": None},
        {"names": ["x", "z", "y"]},
        {"more": {}},
        {"more": {"depth": torch.tensor([[True], [False], [True]])}},
    ],
)
def test_the_digest_sees_every_column(change: dict) -> None:
    assert dataclasses.replace(small(), **change).digest() != small().digest()


def test_the_digest_sees_nothing_else() -> None:
    other = dataclasses.replace(small(), name="elsewhere", images=small().images.T.contiguous().T)
    assert other.digest() == small().digest()
    assert dataclasses.replace(small(), images=small().images.bfloat16()).digest() != small().digest()


@pytest.mark.parametrize(
    ("index", "named"),
    [
        (torch.tensor([1500]), "index must lie in 0 ... 1499"),
        (torch.tensor(3), "index must be an integer tensor"),
        (torch.tensor([0.5]), "index must be an integer tensor"),
        (torch.ones(1500, dtype=torch.bool), "index must be an integer tensor"),
        ([1, 2], "index must be an integer tensor of shape \\(batch,\\), got list"),
    ],
)
def test_a_bad_index_is_named(index: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        load("digits").batch(index)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": torch.zeros(2, 2, dtype=torch.int64)}, "images must be a floating-point"),
        ({"images": torch.full((2, 2), torch.nan)}, "images has entries that are NaN"),
        ({"images": torch.zeros(0, 2), "labels": torch.zeros(0, dtype=torch.int64)}, "images is empty"),
        ({"labels": torch.zeros(2)}, "labels must be a tensor of integers, got torch.float32"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels must have shape \(2,\)"),
        ({"labels": torch.tensor([0, 3])}, "labels must lie in 0 ... 2, got 0 ... 3"),
        ({"labels": torch.tensor([-1, 0])}, "labels must lie in 0 ... 2, got -1 ... 0"),
        ({"labels": torch.tensor([-1, -1]), "classes": None}, "labels must lie in 0 ... 0, got -1 ... -1"),
        ({"labels": None}, "classes must be 0 or None without labels, got 3"),
        ({"classes": 0}, "classes must be an integer >= 1"),
        ({"levels": 1}, "levels must be an integer >= 2"),
        ({"captions": "ab"}, "captions must be strings, one a sample, got str"),
        ({"captions": ["a", 1]}, "captions must be strings, one a sample, got list"),
        ({"captions": ["a"]}, "captions must be 2, one a sample, got 1"),
        ({"names": ["a", "b"]}, "names must be 3 different names"),
        ({"more": {"x": torch.zeros(2)}}, "more\\['x'\\] must be a new column"),
        (
            {"more": {"mask": torch.zeros(3)}},
            r"more\['mask'\] must be a new column of shape \(2, ...\), got torch.float32",
        ),
        ({"more": {"mask": [1, 2]}}, r"more\['mask'\] must be a new column of shape \(2, ...\), got list"),
    ],
)
def test_a_bad_dataset_is_refused(change: dict, named: str) -> None:
    good = Dataset(torch.zeros(2, 2), torch.tensor([0, 2]), 3, "good")
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(good, **change)
