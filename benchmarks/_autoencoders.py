"""What `autoencoders.py` trains and measures: each part of its tables is a method of `Bench`, one call a training."""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flowlib.data import Dataset, load
from flowlib.metrics import evaluate, frechet_distance, label_accuracy, load_evaluator, precision_recall
from flowlib.nets import Autoencoder, ConvDiscriminator, ConvGenerator, DiscreteAutoencoder
from flowlib.nets.autoencoder import draw
from flowlib.recipes import find_recipe, override
from flowlib.runs import train
from flowlib.systems.denoiser import denoising_loss
from flowlib.systems.dvae import annealed_temperature, codebook_use, dvae_loss
from flowlib.systems.gan import train_gan
from flowlib.systems.vae import elbo_loss, kl_to_normal
from flowlib.training.journal import read_metrics
from flowlib.training.trainer import METRICS

Scores = dict[str, float]


class Bench:
    """The data, the measures, and how a network is trained here."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.train: Dataset = load(options.data, "train")
        self.test: Dataset = load(options.data, "test")
        self.factor = 4 if options.data == "mnist" else 8  # latents (B, 4, 7, 7) or (B, 8, 1, 1)
        self.channels = 4 if options.data == "mnist" else 8
        self.evaluator = load_evaluator() if options.data == "mnist" else None
        self.real = self.features(self.test.images[: options.samples])[0]

    def features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.evaluator is None:
            return images.clamp(-1, 1).flatten(1).double(), None
        return evaluate(self.evaluator, images.clamp(-1, 1))

    def judge(self, images: Tensor, labels: Tensor | None = None) -> Scores:
        features, logits = self.features(images)
        precision, recall = precision_recall(self.real, features)
        scores = {"frechet": frechet_distance(features, self.real), "precision": precision, "recall": recall}
        if logits is not None and labels is not None:
            scores["accuracy"] = label_accuracy(logits, labels)
        return scores

    def fit(self, network: nn.Module, loss: Callable[[Tensor, int], Tensor], generator: torch.Generator) -> None:
        steps = self.options.steps
        optimiser = torch.optim.Adam(network.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step in range(steps):
            index = torch.randint(len(self.train), (64,), generator=generator)
            value = loss(self.train.images[index], step)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
        network.eval()

    def autoencoder(self, kl_weight: float | None, seed: int) -> Autoencoder:
        """Trained with a KL weight, or with None as a plain autoencoder."""
        network, source = Autoencoder(1, self.channels, 32, self.factor), torch.Generator().manual_seed(seed)

        def loss(x: Tensor, step: int) -> Tensor:
            if kl_weight is None:
                return denoising_loss(network, x)
            return elbo_loss(network, x, kl_weight=kl_weight, generator=source)

        self.fit(network, loss, source)
        return network

    @torch.no_grad()
    def sampling(self, variant: str, seed: int) -> Scores:
        with torch.enable_grad():
            network = self.autoencoder(None if variant == "autoencoder" else 0.03, seed)
        count, source = self.options.samples, torch.Generator().manual_seed(seed)
        mean, log_variance = network.encode(self.train.images[:5000])
        codes = mean if variant == "autoencoder" else draw(mean, log_variance, source)
        covariance = torch.cov(codes.flatten(1).double().T)
        root = torch.linalg.cholesky(covariance + 1e-9 * covariance.trace() * torch.eye(len(covariance)))
        noise = torch.randn(count, *codes.shape[1:], generator=source)
        fitted = (noise.flatten(1).double() @ root.T).float() + codes.flatten(1).mean(0)
        through = self.judge(network.decode(network.encode(self.test.images[:count])[0]))["frechet"]
        prior, gauss = self.judge(network.decode(noise)), self.judge(network.decode(fitted.reshape(noise.shape)))
        return {
            "frechet reconstructions": through,
            **{f"{name} N(0, I)": value for name, value in prior.items()},
            **{f"{name} fitted": value for name, value in gauss.items()},
        }

    @torch.no_grad()
    def rate(self, variant: str, seed: int) -> Scores:
        with torch.enable_grad():
            network = self.autoencoder(float(variant), seed)
        x = self.test.images[:2000]
        mean, log_variance = network.encode(x)
        each = kl_to_normal(mean.reshape(-1, 1), log_variance.reshape(-1, 1)).reshape(len(x), -1).mean(0)
        decoded = network.decode(draw(mean, log_variance, torch.Generator().manual_seed(seed)))
        distortion = float((decoded - x).square().flatten(1).sum(1).mean())
        return {"rate": float(each.sum()), "distortion": distortion, "latents in use": float((each > 0.05).sum())}

    @torch.no_grad()
    def codebook(self, variant: str, seed: int) -> Scores:
        network, source = DiscreteAutoencoder(64, 16, factor=4 if self.factor == 4 else 2), torch.Generator()
        steps = self.options.steps

        def loss(x: Tensor, step: int) -> Tensor:
            temperature = annealed_temperature(step, steps)
            return dvae_loss(network, x, temperature=temperature, kl_weight=float(variant), generator=source)

        with torch.enable_grad():
            self.fit(network, loss, source.manual_seed(seed))
        x = self.test.images[:2000]
        index = network.encode(x).argmax(1)
        use = codebook_use(index, 64)
        error = float((network.decode_tokens(index) - x).square().flatten(1).sum(1).mean())
        bits = index[0].numel() * float(torch.tensor(use.perplexity).log2())  # at most: places are not independent
        return {"distortion": error, "used": use.share, "perplexity": use.perplexity, "bits at most": bits}

    def gan(self, variant: str, seed: int) -> Scores:
        count, steps = self.options.samples, self.options.gan_steps
        y = self.train.labels[torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))[:count]]
        started = time.perf_counter()
        if variant == "flow":
            recipe = override(find_recipe(self.options.data), [f"steps={self.options.flow_steps}", f"seed={seed}"])
            folder = self.options.out / f"flow-{self.options.data}-{self.options.flow_steps}-{seed}"
            run = train(recipe, folder, resume=True, pictures=False)
            spent = read_metrics(folder / METRICS)[-1]["seconds"]  # of the whole training, if it was interrupted too
            return {"seconds": spent, "evaluations": 40.0, **self.judge(run.sample(y, steps=20, seed=seed), y)}
        size, source = self.train.shape[1], torch.Generator().manual_seed(seed)
        maker, judge = ConvGenerator(size), ConvDiscriminator(size)
        train_gan(maker, judge, self.train.images, self.train.labels, steps=steps, generator=source)
        spent = time.perf_counter() - started
        with torch.no_grad():
            images = maker(torch.randn(len(y), maker.noise_dim, generator=source), y)
        return {"seconds": spent, "evaluations": 1.0, **self.judge(images, y)}
