"""Judges: what is measured of the samples of a data set, which names its judge.

A judge is made once, of both parts of a data set, and then scores any number of sets of samples:

    judge = judge_of(load("digits"), load("digits", "test"))
    judge(samples, labels)["frechet"]

Of images: "accuracy", the share that is read as the label asked for; "frechet", the Fréchet distance to the test part;
"precision" and "recall"; and "inception". Of points: "sliced_wasserstein" and "energy".
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.checks import check_choice, check_tensor
from flowlib.data import Dataset
from flowlib.metrics.distances import energy_distance, sliced_wasserstein
from flowlib.metrics.evaluator import FEATURES, IMAGE_SHAPE, evaluate, load_evaluator
from flowlib.metrics.features import frechet_distance, precision_recall
from flowlib.metrics.images import evaluate_images, inception_score
from flowlib.metrics.scenes import judge_by_scene_reader
from flowlib.training.order import stream

Judge = Callable[[Tensor, Tensor | None], dict[str, float | str]]  # samples, the labels asked for -> scores
Reader = Callable[[Tensor], Tensor]  # images (N, C, H, W) -> a logit for each label, (N, K)

SIDE, COMPONENTS = 16, 64  # of the grid of means that stands for larger images; of pixels, for a Fréchet distance
FEW, FITTED = 16, 10_000  # test images that a covariance needs; training images that a machine is fitted to in seconds
NEIGHBOURS = 3  # of precision and recall


def fit_reader(train: Dataset) -> Reader:
    """A support vector machine fitted to images and labels: images (N, C, H, W) -> a logit for each label, (N, K).

    Raises:
        ValueError: if the data have no labels.
    """
    from sklearn.svm import SVC

    if train.labels is None:
        raise ValueError(f"train must have labels, and {train.name!r} has none")
    machine = SVC(gamma=0.064, C=10.0).fit(train.images.flatten(1).numpy(), train.labels.numpy())
    return lambda images: torch.from_numpy(machine.decision_function(images.clamp(-1, 1).flatten(1).numpy()))


def judge_by_evaluator(train: Dataset, test: Dataset) -> Judge:
    """Of digits like MNIST's: all measures of `evaluate_images`."""
    return lambda x, y: {**evaluate_images(_enough(x, FEATURES + 1), y, test.images)}


def judge_by_reader(train: Dataset, test: Dataset) -> Judge:
    """Of the 8x8 digits: their features are the pixels, and a support vector machine reads the labels."""
    read, real = fit_reader(train), test.images.flatten(1)

    def judge(x: Tensor, y: Tensor | None) -> dict[str, float | str]:
        pixels, logits = _enough(x, real.shape[1] + 1).clamp(-1, 1).flatten(1), read(x)
        scores: dict[str, float | str] = {} if y is None else {"accuracy": _share(logits.argmax(1) == y)}
        precision, recall = precision_recall(real, pixels[: len(real)])
        scores |= {"frechet": frechet_distance(pixels, real), "precision": precision, "recall": recall}
        return scores | {"inception": inception_score(logits)}

    return judge


def judge_points(train: Dataset, test: Dataset) -> Judge:
    """Of points, or of anything flattened to points: distances between samples and the test part."""
    real = test.images.flatten(1)

    def judge(x: Tensor, y: Tensor | None) -> dict[str, float | str]:
        points = x.flatten(1)
        distance = sliced_wasserstein(points, real, generator=stream(0, "directions"))
        return {"sliced_wasserstein": distance, "energy": energy_distance(points, real)}

    return judge


def judge_images(train: Dataset, test: Dataset) -> Judge:
    """Of images of one's own: what can be told by features of them, and by a reader of their labels.

    Features are the evaluator's for grey images of 28x28 pixels. Other images are averaged over the cells of a grid of
    at most 16x16, and of these pixels the Fréchet distance, precision and recall see the 64 leading principal
    components: no finer detail. A covariance needs more images than features, so of either kind there are no more
    components than half the test images.

    The reader is a support vector machine on the features. "reader" is the share of test images that it reads right:
    an accuracy close to that is as good as can be told. Its logits are margins, so "inception" is to be compared with
    that of real images only. Components and reader are fitted to at most 10,000 training images.

    What there are too few images or labels for is left out, and "note" says why.

    Raises:
        ValueError: if the two parts, or the samples to be judged, do not have one shape, or samples are not finite.
    """
    _check_shape("test", test.images, train.shape)
    extract = _evaluator_features if train.shape == IMAGE_SHAPE else _grid_of_means
    chosen = torch.randperm(len(train), generator=stream(0, "fitted"))[:FITTED]
    known, real = extract(train.images[chosen]), extract(test.images)
    limit = FEATURES if train.shape == IMAGE_SHAPE else COMPONENTS
    few = min(len(train), len(test)) < FEW
    project = _principal_components(known, min(limit, len(train) // 2, len(test) // 2))
    read, real_points = None if train.labels is None else _fit_labels(known, train.labels[chosen]), project(real)
    own = {} if read is None or test.labels is None else {"reader": _share(read(real)[0] == test.labels)}

    def judge(x: Tensor, y: Tensor | None) -> dict[str, float | str]:
        features = extract(_check_shape("samples", x, train.shape).clamp(-1, 1))
        points, scores, notes = project(features), dict[str, float | str](), []
        told = None if read is None else read(features)
        if told is not None and y is not None:
            scores["accuracy"] = _share(told[0] == y)
        elif y is not None:
            notes.append("accuracy needs training images of two labels")
        if few:
            notes.append(f"frechet needs {FEW} test images, there are {len(test)}")
        elif len(points) <= points.shape[1]:
            notes.append(f"frechet needs more than {points.shape[1]} samples, there are {len(points)}")
        else:
            scores["frechet"] = frechet_distance(points, real_points)
        if min(len(points), len(test)) <= NEIGHBOURS:
            notes.append(f"precision and recall need more than {NEIGHBOURS} test images and samples")
        else:
            precision, recall = precision_recall(real_points, points[: len(test)], NEIGHBOURS)
            scores |= {"precision": precision, "recall": recall}
        if told is not None:
            scores["inception"] = inception_score(told[1])
        return scores | own | ({"note": "; ".join(notes)} if notes else {})

    return judge


JUDGES: dict[str, Callable[[Dataset, Dataset], Judge]] = {
    "evaluator": judge_by_evaluator,
    "reader": judge_by_reader,
    "points": judge_points,
    "images": judge_images,
    "scenes": judge_by_scene_reader,
}


def judge_of(train: Dataset, test: Dataset) -> Judge:
    """The judge that a data set names; where it names none, "images" for samples (C, H, W), else "points".

    Raises:
        ValueError: if there is no judge of that name, or the data do not fit it.
    """
    name = train.judge or ("images" if len(train.shape) == 3 else "points")
    return JUDGES[check_choice("judge", name, JUDGES)](train, test)


def _evaluator_features(images: Tensor) -> Tensor:
    return evaluate(load_evaluator(), images)[0]


def _grid_of_means(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    return F.adaptive_avg_pool2d(images, (min(SIDE, height), min(SIDE, width))).flatten(1)


def _principal_components(features: Tensor, count: int) -> Callable[[Tensor], Tensor]:
    """Features (N, D) -> (N, count), along the axes in which `features` vary most; as they are if D is no larger."""
    if not 0 < count < features.shape[1]:
        return lambda other: other
    axes = torch.linalg.eigh(torch.cov(features.double().T)).eigenvectors[:, -count:]  # of the largest eigenvalues
    return lambda other: other.double() @ axes  # not centred: no measure sees a shift of all


def _fit_labels(features: Tensor, labels: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """A reader: features (N, D) -> labels (N,) and logits (N, K) of the K labels it saw; None if it saw but one."""
    from sklearn.svm import SVC

    if len(labels.unique()) < 2:
        return None
    machine = SVC(gamma="scale", C=10.0).fit(features.numpy(), labels.numpy())
    seen = torch.from_numpy(machine.classes_)

    def read(other: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.from_numpy(machine.decision_function(other.numpy()))
        if logits.ndim == 1:  # of two labels it gives the second's logit above the first's
            logits = torch.stack([-logits, logits], dim=1) / 2
        return seen[logits.argmax(1)], logits

    return read


def _check_shape(name: str, images: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(check_tensor(name, images).shape[1:]) != shape:
        raise ValueError(f"{name} must have shape (batch, {', '.join(map(str, shape))}), got {tuple(images.shape)}")
    return images


def _enough(samples: Tensor, least: int) -> Tensor:
    if len(samples) >= least:
        return samples
    raise ValueError(f"samples must be {least} or more to be measured beside real ones, got {len(samples)}")


def _share(right: Tensor) -> float:
    return float(right.double().mean())
