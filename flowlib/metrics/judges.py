"""Judges: what is measured of the samples of a data set, by its name."""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.data import Dataset
from flowlib.metrics.distances import energy_distance, sliced_wasserstein
from flowlib.metrics.features import frechet_distance, precision_recall
from flowlib.metrics.images import evaluate_images, inception_score
from flowlib.training.order import stream

Judge = Callable[[Tensor, Tensor | None], dict[str, float]]


def fit_reader(train: Dataset) -> Callable[[Tensor], Tensor]:
    """A support vector machine fitted to images and labels: images (N, C, H, W) -> a logit for each label, (N, K)."""
    from sklearn.svm import SVC

    machine = SVC(gamma=0.064, C=10.0, decision_function_shape="ovr")
    machine.fit(train.images.flatten(1).numpy(), train.labels.numpy())
    return lambda images: torch.from_numpy(machine.decision_function(images.clamp(-1, 1).flatten(1).numpy()))


def judge_of(train: Dataset, test: Dataset) -> Judge:
    if train.name == "mnist":
        return lambda x, y: evaluate_images(x, y, test.images)
    if train.name != "digits":
        return lambda x, _: {
            "sliced_wasserstein": sliced_wasserstein(x, test.images, generator=stream(0, "directions")),
            "energy": energy_distance(x, test.images),
        }
    read, real = fit_reader(train), test.images.flatten(1)

    def judge(x: Tensor, y: Tensor | None) -> dict[str, float]:
        pixels, logits = x.clamp(-1, 1).flatten(1), read(x)
        scores = {} if y is None else {"accuracy": float((logits.argmax(1) == y).double().mean())}
        precision, recall = precision_recall(real, pixels[: len(real)])
        scores |= {"frechet": frechet_distance(pixels, real), "precision": precision, "recall": recall}
        return scores | {"inception": inception_score(logits)}

    return judge
