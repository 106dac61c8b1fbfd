"""Which matrices Muon takes of each network: all those listed here, and no other."""

import inspect
import logging
from collections.abc import Callable

import pytest
import torch
from torch import nn

from flowlib import nets
from flowlib.metrics import Evaluator
from flowlib.nets import MLP, DiT, UNet
from flowlib.nets.text_image import TextImageGPT
from flowlib.systems.improved_ddpm import TwoOutputs
from flowlib.training import Training
from flowlib.training.muon import Muon
from flowlib.training.optimisers import make_optimisers

UNET = {"in_channels": 1, "channels": (8, 16), "depth": 1, "heads": 2, "dim": 8}

# name -> (the network, the inner matrices without ".weight" at their ends)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "unet": (
        lambda: UNet(**UNET, attention=(1,)),
        """
        encoders.0.blocks.0.conv1 encoders.0.blocks.0.conv2 downs.0
        encoders.1.blocks.0.conv1 encoders.1.blocks.0.conv2
        encoders.1.blocks.1.attention.qkv encoders.1.blocks.1.attention.out
        midcoder.blocks.0.conv1 midcoder.blocks.0.conv2
        midcoder.blocks.1.attention.qkv midcoder.blocks.1.attention.out
        decoders.0.blocks.0.conv1 decoders.0.blocks.0.conv2 decoders.0.blocks.0.match
        decoders.0.blocks.1.attention.qkv decoders.0.blocks.1.attention.out ups.0
        decoders.1.blocks.0.conv1 decoders.1.blocks.0.conv2 decoders.1.blocks.0.match
        """,
    ),
    "unet, biggan, added, gates": (
        lambda: UNet(**UNET, biggan=True, adagn=False, gates=True),
        """
        encoders.0.blocks.0.conv1 encoders.0.blocks.0.conv2 downs.0.conv1 downs.0.conv2 downs.0.match
        encoders.1.blocks.0.conv1 encoders.1.blocks.0.conv2 midcoder.blocks.0.conv1 midcoder.blocks.0.conv2
        decoders.0.blocks.0.conv1 decoders.0.blocks.0.conv2 decoders.0.blocks.0.match ups.0.conv1 ups.0.conv2
        ups.0.match decoders.1.blocks.0.conv1 decoders.1.blocks.0.conv2 decoders.1.blocks.0.match
        """,
    ),
    "mixture": (
        lambda: nets.PixelMixture(1, (8,), dim=8),
        """
        net.encoders.0.blocks.0.conv1 net.encoders.0.blocks.0.conv2 net.midcoder.blocks.0.conv1
        net.midcoder.blocks.0.conv2 net.decoders.0.blocks.0.conv1 net.decoders.0.blocks.0.conv2
        net.decoders.0.blocks.0.match
        """,
    ),
    "recalling": (
        lambda: nets.Recalling(UNet(2, (8,), 1, dim=8), nets.Memory((1, 4, 4), until=0.5)),
        """
        net.encoders.0.blocks.0.conv1 net.encoders.0.blocks.0.conv2 net.midcoder.blocks.0.conv1
        net.midcoder.blocks.0.conv2 net.decoders.0.blocks.0.conv1 net.decoders.0.blocks.0.conv2
        net.decoders.0.blocks.0.match
        """,
    ),
    "unet, words": (
        lambda: UNet(1, (8,), 1, classes=None, attention=(0,), heads=2, dim=8, words=5, length=4),
        """
        encoders.0.blocks.0.conv1 encoders.0.blocks.0.conv2
        encoders.0.blocks.1.attention.qkv encoders.0.blocks.1.attention.out
        encoders.0.cross.attention.q encoders.0.cross.attention.kv encoders.0.cross.attention.out
        midcoder.blocks.0.conv1 midcoder.blocks.0.conv2
        midcoder.blocks.1.attention.qkv midcoder.blocks.1.attention.out
        midcoder.cross.attention.q midcoder.cross.attention.kv midcoder.cross.attention.out
        decoders.0.blocks.0.conv1 decoders.0.blocks.0.conv2 decoders.0.blocks.0.match
        decoders.0.blocks.1.attention.qkv decoders.0.blocks.1.attention.out
        decoders.0.cross.attention.q decoders.0.cross.attention.kv decoders.0.cross.attention.out
        """,
    ),
    "unet, under control": (
        lambda: nets.Controlled(UNet(**UNET).requires_grad_(False), [nets.ControlNet(UNet(**UNET), 1)], (8, 8)),
        """
        controls.0.encoders.0.blocks.0.conv1 controls.0.encoders.0.blocks.0.conv2 controls.0.downs.0
        controls.0.encoders.1.blocks.0.conv1 controls.0.encoders.1.blocks.0.conv2
        controls.0.midcoder.blocks.0.conv1 controls.0.midcoder.blocks.0.conv2
        """,
    ),
    "dit": (
        lambda: DiT(1, image_size=8, patch=2, width=8, depth=2, heads=2, gates=True),
        """
        blocks.0.attention.qkv blocks.0.attention.out blocks.0.mlp.0 blocks.0.mlp.2
        blocks.1.attention.qkv blocks.1.attention.out blocks.1.mlp.0 blocks.1.mlp.2
        """,
    ),
    "transformer": (
        lambda: nets.Transformer(width=8, depth=1, heads=2, gelu="quick"),
        "blocks.0.attention.qkv blocks.0.attention.out blocks.0.mlp.0 blocks.0.mlp.2",
    ),
    "gpt": (
        lambda: nets.GPT(vocabulary=5, length=4, width=8, depth=1, heads=2),
        """
        transformer.blocks.0.attention.qkv transformer.blocks.0.attention.out
        transformer.blocks.0.mlp.0 transformer.blocks.0.mlp.2
        """,
    ),
    "text and image": (
        lambda: TextImageGPT(words=5, length=4, codes=5, grid=(2, 2), padding=4, width=8, depth=1, heads=2),
        """
        transformer.blocks.0.attention.qkv transformer.blocks.0.attention.out
        transformer.blocks.0.mlp.0 transformer.blocks.0.mlp.2
        """,
    ),
    "text": (
        lambda: nets.TextTransformer(vocabulary=5, length=4, end=4, width=8, depth=1, heads=2),
        """
        transformer.blocks.0.attention.qkv transformer.blocks.0.attention.out
        transformer.blocks.0.mlp.0 transformer.blocks.0.mlp.2
        """,
    ),
    "vit": (
        lambda: nets.ViT(image_size=8, width=8, depth=1, heads=2, out_dim=4, timed=True),
        """
        transformer.blocks.0.attention.qkv transformer.blocks.0.attention.out
        transformer.blocks.0.mlp.0 transformer.blocks.0.mlp.2
        """,
    ),
    "vit, mean": (
        lambda: nets.ViT(image_size=8, width=8, depth=1, heads=2, pool="mean"),
        """
        transformer.blocks.0.attention.qkv transformer.blocks.0.attention.out
        transformer.blocks.0.mlp.0 transformer.blocks.0.mlp.2
        """,
    ),
    "image cnn": (
        lambda: nets.ImageCNN(image_size=8, channels=(8, 16), heads=2, out_dim=4, timed=True),
        "layers.0.conv1 layers.0.conv2 layers.2 layers.3.conv1 layers.3.conv2 pool.attention.q pool.attention.kv",
    ),
    "clip": (
        lambda: nets.CLIP(
            nets.ImageCNN(image_size=4, channels=(8,), heads=2, out_dim=4),
            nets.TextTransformer(vocabulary=5, length=4, end=4, width=8, depth=1, heads=2),
        ),
        """
        image.layers.0.conv1 image.layers.0.conv2 image.pool.attention.q image.pool.attention.kv
        text.transformer.blocks.0.attention.qkv text.transformer.blocks.0.attention.out
        text.transformer.blocks.0.mlp.0 text.transformer.blocks.0.mlp.2
        """,
    ),
    "mlp": (
        lambda: MLP(width=8, depth=2, classes=3, dim=8),
        "blocks.0.layers.0 blocks.0.layers.2 blocks.1.layers.0 blocks.1.layers.2",
    ),
    "autoencoder": (
        lambda: nets.Autoencoder(channels=8, factor=4),
        """
        encoder.1.conv1 encoder.1.conv2 encoder.2 encoder.3.conv1 encoder.3.conv2
        decoder.1.conv1 decoder.1.conv2 decoder.3 decoder.4.conv1 decoder.4.conv2
        """,
    ),
    "autoencoder of depth 2": (
        lambda: nets.Autoencoder(channels=8, factor=1, depth=2),
        """
        encoder.1.conv1 encoder.1.conv2 encoder.2.conv1 encoder.2.conv2
        decoder.1.conv1 decoder.1.conv2 decoder.2.conv1 decoder.2.conv2
        """,
    ),
    "autoencoder of points": (lambda: nets.PointAutoencoder(channels=8), "encoder.2 decoder.2"),
    "codebook": (
        lambda: nets.CodebookAutoencoder(channels=8, factor=2, size=5),
        "encoder.1.conv1 encoder.1.conv2 decoder.1.conv1 decoder.1.conv2",
    ),
    "discrete": (
        lambda: nets.DiscreteAutoencoder(tokens=5, channels=8, factor=2, law=True),
        "layers.encoder.1.conv1 layers.encoder.1.conv2 layers.decoder.1.conv1 layers.decoder.1.conv2",
    ),
    "discrete with centres": (
        lambda: nets.DiscreteAutoencoder(tokens=5, channels=8, factor=2, centred=True),
        "layers.encoder.1.conv1 layers.encoder.1.conv2 layers.decoder.1.conv1 layers.decoder.1.conv2",
    ),
    "classifier": (
        lambda: nets.TimeClassifier(channels=(8, 16), dim=8),
        """
        encoders.0.blocks.0.conv1 encoders.0.blocks.0.conv2 downs.1
        encoders.1.blocks.0.conv1 encoders.1.blocks.0.conv2
        """,
    ),
    "evaluator": (Evaluator, "convs.1 convs.2 convs.3 convs.4"),
    "generator": (lambda: nets.ConvGenerator(size=8, channels=8), "layers.5 layers.9"),
    "discriminator": (lambda: nets.ConvDiscriminator(size=8, channels=8), "layers.2 layers.4 layers.7"),
    "discriminator without labels": (
        lambda: nets.ConvDiscriminator(size=8, channels=8, classes=None),
        "layers.2 layers.4 layers.7",
    ),
    "generator of points": (lambda: nets.PointGenerator(width=8, classes=3), "layers.2 layers.4"),
    "discriminator of points": (lambda: nets.PointDiscriminator(width=8), "layers.2 layers.4"),
    "patches": (lambda: nets.PatchDiscriminator(channels=8), "layers.2"),
    "concatenated": (
        lambda: nets.Concatenated(MLP(4, 8, 1, dim=8), 2),
        "net.blocks.0.layers.0 net.blocks.0.layers.2",
    ),
    "masked autoencoder": (
        lambda: nets.MaskedAutoencoder(nets.ViT(3, 8, 2, 8, 1, 2, pool="mean"), 8, 1, 2),
        """
        encoder.transformer.blocks.0.attention.qkv encoder.transformer.blocks.0.attention.out
        encoder.transformer.blocks.0.mlp.0 encoder.transformer.blocks.0.mlp.2
        transformer.blocks.0.attention.qkv transformer.blocks.0.attention.out
        transformer.blocks.0.mlp.0 transformer.blocks.0.mlp.2
        """,
    ),
    "sam": (
        lambda: nets.SAM(
            nets.ImageEncoder(nets.ViT(3, 8, 2, 8, 1, 2, pool="mean"), 8),
            nets.PromptEncoder(8, (4, 4), (8, 8), 4, 2, 3),
            nets.MaskDecoder(nets.TwoWayTransformer(8, 1, 2, 16)),
        ),
        """
        image_encoder.vit.transformer.blocks.0.attention.qkv image_encoder.vit.transformer.blocks.0.attention.out
        image_encoder.vit.transformer.blocks.0.mlp.0 image_encoder.vit.transformer.blocks.0.mlp.2
        image_encoder.neck.0 image_encoder.neck.2 prompt_encoder.shrink.3 prompt_encoder.shrink.6
        mask_decoder.transformer.blocks.0.to_tokens.q mask_decoder.transformer.blocks.0.to_tokens.k
        mask_decoder.transformer.blocks.0.to_tokens.v mask_decoder.transformer.blocks.0.to_tokens.out
        mask_decoder.transformer.blocks.0.to_image.q mask_decoder.transformer.blocks.0.to_image.k
        mask_decoder.transformer.blocks.0.to_image.v mask_decoder.transformer.blocks.0.to_image.out
        mask_decoder.transformer.blocks.0.mlp.0 mask_decoder.transformer.blocks.0.mlp.2
        mask_decoder.transformer.blocks.0.from_image.q mask_decoder.transformer.blocks.0.from_image.k
        mask_decoder.transformer.blocks.0.from_image.v mask_decoder.transformer.blocks.0.from_image.out
        mask_decoder.transformer.last.q mask_decoder.transformer.last.k
        mask_decoder.transformer.last.v mask_decoder.transformer.last.out
        mask_decoder.grow.0 mask_decoder.grow.3
        """,
    ),
    "two outputs": (lambda: TwoOutputs(MLP(4, 8, 1, dim=8)), "net.blocks.0.layers.0 net.blocks.0.layers.2"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_muon_takes_what_lies_inside_and_adamw_the_rest(name: str, caplog: pytest.LogCaptureFixture) -> None:
    make, inner = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        net = make()
    muon, adamw = make_optimisers(Training(steps=1, optimiser="muon"), net)
    names = {p: key for key, p in net.named_parameters() if p.requires_grad}
    first, rest = ([names[p] for group in one.param_groups for p in group["params"]] for one in (muon, adamw))
    assert isinstance(muon, Muon)
    assert sorted(first) == sorted(f"{key}.weight" for key in inner.split())
    assert sorted(first + rest) == sorted(names.values())
    assert caplog.records == []  # nothing is left that nobody has declared


def test_every_network_is_listed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with torch.random.fork_rng(devices=[]):
        listed = {type(part) for make, _ in NETWORKS.values() for part in make().modules()}
    kinds = [kind for name in nets.__all__ if inspect.isclass(kind := getattr(nets, name))]
    renamed = {nets.CrossAttention}  # Attention, with its arguments in another order
    assert {kind for kind in kinds if issubclass(kind, nn.Module)} - listed == renamed
