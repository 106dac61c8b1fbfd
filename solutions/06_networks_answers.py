"""Wrong and right answers to exercise 06, each of which its check must tell apart."""


# %% wrong="06.1" hint="sin takes radians"
def time_embedding(t, dim, fastest=100.0):
    angle = t[:, None] * fastest ** torch.linspace(0, 1, dim // 2, dtype=t.dtype)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# %% wrong="06.1" hint="counts sines and cosines together"
def time_embedding(t, dim, fastest=100.0):
    angle = 2 * math.pi * t[:, None] * fastest ** torch.linspace(0, 1, dim, dtype=t.dtype)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# %% wrong="06.1" hint="are both ends of the sequence included"
def time_embedding(t, dim, fastest=100.0):
    half = dim // 2
    angle = 2 * math.pi * t[:, None] * fastest ** (torch.arange(half, dtype=t.dtype) / half)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# %% wrong="06.1" hint="geometric sequence"
def time_embedding(t, dim, fastest=100.0):
    angle = 2 * math.pi * t[:, None] * torch.linspace(1, fastest, dim // 2, dtype=t.dtype)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# %% wrong="06.1" hint="sines in the first half"
def time_embedding(t, dim, fastest=100.0):
    angle = 2 * math.pi * t[:, None] * fastest ** torch.linspace(0, 1, dim // 2, dtype=t.dtype)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


# %% wrong="06.1" hint="must have the same frequency"
def time_embedding(t, dim, fastest=100.0):
    frequency = fastest ** torch.linspace(0, 1, dim, dtype=t.dtype)
    angle = 2 * math.pi * t[:, None] * frequency
    return torch.cat([angle[:, : dim // 2].sin(), angle[:, dim // 2 :].cos()], dim=1)


# %% wrong="06.1" hint="must come first and turn exactly once"
def time_embedding(t, dim, fastest=100.0):
    angle = 2 * math.pi * t[:, None] * fastest ** torch.linspace(1, 0, dim // 2, dtype=t.dtype)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# %% wrong="06.1" hint="with fastest = 17"
def time_embedding(t, dim, fastest=100.0):
    exponent = torch.linspace(0, 1, dim // 2, dtype=t.dtype)
    angle = 2 * math.pi * t[:, None] * 100.0**exponent
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# %% wrong="06.1" hint="changed in place"
def time_embedding(t, dim, fastest=100.0):
    t *= 2 * math.pi
    angle = t[:, None] * fastest ** torch.linspace(0, 1, dim // 2, dtype=t.dtype)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# %% wrong="06.1" hint="one time gives one row"
def time_embedding(t, dim, fastest=100.0):
    angle = 2 * math.pi * t[:, None] * fastest ** torch.linspace(0, 1, dim // 2, dtype=t.dtype)
    return torch.cat([angle.sin(), angle.cos()], dim=1).squeeze()


# %% wrong="06.1" hint="the answer calls TimeEmbedding"
def time_embedding(t, dim, fastest=100.0):
    angle = t[:, None] * embeddings.TimeEmbedding(8, dim, fastest).frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# %% wrong="06.1" hint="NaN or infinite"
def time_embedding(t, dim, fastest=100.0):
    return torch.full((len(t), dim), float("nan"), dtype=t.dtype)


# %% right="06.1" name="loops"
def time_embedding(t, dim, fastest=100.0):
    half = dim // 2
    rows = []
    for value in t.tolist():
        angles = [2 * math.pi * fastest ** (k / (half - 1)) * value for k in range(half)]
        rows.append([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    return torch.tensor(rows)


# %% right="06.1" name="logspace and complex numbers"
def time_embedding(t, dim, fastest=100.0):
    turns = torch.logspace(0, math.log10(fastest), dim // 2, dtype=torch.float64)
    circle = torch.polar(torch.ones(1, dtype=torch.float64), 2 * math.pi * torch.outer(t.double(), turns))
    return torch.cat([circle.imag, circle.real], dim=1).to(t.dtype)


# %% right="06.1" name="exp of log, in float32"
def time_embedding(t, dim, fastest=100.0):
    frequency = torch.exp(torch.arange(dim // 2) * (math.log(fastest) / (dim // 2 - 1)))
    angle = 2 * torch.pi * frequency[None] * t.float()[:, None]
    out = torch.empty(len(t), dim)
    out[:, : dim // 2], out[:, dim // 2 :] = torch.sin(angle), torch.cos(angle)
    return out


# %% right="06.1" name="geomspace powers"
def time_embedding(t, dim, fastest=100.0):
    m = dim // 2
    r = fastest ** (1 / (m - 1))
    cols = [torch.sin(2 * math.pi * r**k * t) for k in range(m)] + [torch.cos(2 * math.pi * r**k * t) for k in range(m)]
    return torch.stack(cols, dim=-1)


# %% wrong="06.2" hint="a scale of 0 must mean a factor of 1"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(h * scale + shift))


# %% wrong="06.2" hint="sample 3's condition reached other samples"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition).chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="conv1 starts at zero"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="weight and bias, starts at zero"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # and the bias?
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="a norm that comes after the modulation"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h * (1 + scale) + shift)))


# %% wrong="06.2" hint="x must be added to it"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return self.conv2(F.silu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="scales and shifts are exchanged"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        shift, scale = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="no condition changes anything"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = nn.Linear(dim, 2 * channels)

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="the answer calls ResidualBlock.__init__"
class ResidualBlock(unet.ResidualBlock):
    def __init__(self, channels, dim):
        super().__init__(channels, channels, dim)


# %% wrong="06.2" hint="with 8 groups"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, channels), nn.GroupNorm(4, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="never called: ['norm2']"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm1(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="nonlinearity before conv2"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(F.silu(self.conv1(F.silu(self.norm1(x)))))
        return x + self.conv2(h * (1 + scale) + shift)


# %% wrong="06.2" hint="is it another nonlinearity"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.relu(self.norm1(x))))
        return x + self.conv2(F.relu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="changed in place"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        x += self.conv2(F.silu(h * (1 + scale) + shift))
        return x


# %% wrong="06.2" hint="no nonlinearity comes before it"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, x, condition):
        scale, shift = self.modulation(F.silu(condition))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(h * (1 + scale) + shift))


# %% wrong="06.2" hint="x itself"
class ResidualBlock(nn.Module):
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        return self.norm1(x) + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


# %% wrong="06.2" hint="a shift of 2 changes nothing"
class ResidualBlock(nn.Module):
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, _ = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h) * (1 + scale)))


# %% wrong="06.2" hint="is one detached"
class ResidualBlock(nn.Module):
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition.detach())[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


# %% right="06.2" name="addcmul, and zeros by hand"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.channels = channels
        self.norm1 = nn.GroupNorm(8, channels)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding="same")
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding="same")
        self.modulation = nn.Linear(dim, 2 * channels)
        for layer in (self.conv2, self.modulation):
            layer.weight.data.zero_()
            layer.bias.data.zero_()

    def forward(self, x, condition):
        both = self.modulation(condition)
        scale = both[:, : self.channels].unsqueeze(-1).unsqueeze(-1)
        shift = both[:, self.channels :].unsqueeze(-1).unsqueeze(-1)
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), scale + 1))) + x


# %% right="06.2" name="einsum, sample by sample"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = (nn.GroupNorm(8, channels) for _ in range(2))
        self.modulation = nn.Linear(dim, 2 * channels)
        for parameter in [*self.conv2.parameters(), *self.modulation.parameters()]:
            nn.init.zeros_(parameter)

    def forward(self, x, condition):
        outs = []
        for image, vector in zip(x, condition, strict=True):
            scale, shift = self.modulation(vector).reshape(2, -1)
            h = self.norm2(self.conv1(F.silu(self.norm1(image[None]))))[0]
            h = h + torch.einsum("c,chw->chw", scale, h) + shift[:, None, None]
            outs.append(image + self.conv2(F.silu(h)[None])[0])
        return torch.stack(outs)


# %% right="06.2" name="view and lerp free"
class ResidualBlock(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight), nn.init.zeros_(self.conv2.bias)
        self.modulation = nn.Linear(dim, 2 * channels)
        nn.init.zeros_(self.modulation.weight), nn.init.zeros_(self.modulation.bias)
        self.act = nn.SiLU()

    def forward(self, x, condition):
        m = self.modulation(condition).view(len(x), 2, -1, 1, 1)
        h = self.norm2(self.conv1(self.act(self.norm1(x))))
        h = h + h * m[:, 0] + m[:, 1]
        return x + self.conv2(self.act(h))


# %% wrong="06.3" hint="joining is concatenation"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = self.up(F.interpolate(self.middle(self.down(skip), condition), scale_factor=2))
        return self.head(self.decoder(h + skip, condition))


# %% wrong="06.3" hint="the skip starts before the encoder"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.stem(x)
        h = self.middle(self.down(self.encoder(skip, condition)), condition)
        h = self.up(F.interpolate(h, scale_factor=2))
        return self.head(self.decoder(torch.cat([h, skip], 1), condition))


# %% wrong="06.3" hint="after an image had been halved"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        h = self.down(self.encoder(self.stem(x), condition))
        skip = F.interpolate(h[:, : h.shape[1] // 2], scale_factor=2)
        h = self.up(F.interpolate(self.middle(h, condition), scale_factor=2))
        return self.head(self.decoder(torch.cat([h, skip], 1), condition))


# %% wrong="06.3" hint="where is the skip"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        h = self.encoder(self.stem(x), condition)
        h = self.middle(self.down(h), condition)
        h = skip = self.up(F.interpolate(h, scale_factor=2))
        return self.head(self.decoder(torch.cat([h, skip], 1), condition))


# %% wrong="06.3" hint="not the reverse"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = self.up(F.interpolate(self.middle(self.down(skip), condition), scale_factor=2))
        return self.head(self.decoder(torch.cat([skip, h], 1), condition))


# %% wrong="06.3" hint="the network must start at 0"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = embeddings.zero_init(nn.Conv2d(1, channels, 3, padding=1))
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = self.up(F.interpolate(self.middle(self.down(skip), condition), scale_factor=2))
        return self.head(self.decoder(torch.cat([h, skip], 1), condition))


# %% wrong="06.3" hint="some parameter gets no gradient"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = F.interpolate(self.middle(self.down(skip), condition), scale_factor=2)
        return self.head(self.decoder(torch.cat([self.up(h.detach()), skip], 1), condition))


# %% wrong="06.3" hint="`head` must read what `decoder`"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = self.middle(self.down(skip), condition)
        h = self.up(F.interpolate(h, scale_factor=2))
        return self.head(F.silu(self.decoder(torch.cat([h, skip], dim=1), condition)))


# %% wrong="06.3" hint="nearest-neighbour"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = self.middle(self.down(skip), condition)
        h = self.up(F.interpolate(h, scale_factor=2, mode="bilinear"))
        return self.head(self.decoder(torch.cat([h, skip], dim=1), condition))


# %% wrong="06.3" hint="at the start the output is x"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = self.middle(self.down(skip), condition)
        h = self.up(F.interpolate(h, scale_factor=2))
        return x + self.head(self.decoder(torch.cat([h, skip], dim=1), condition))


# %% wrong="06.3" hint="must be `up`'s output"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = self.middle(self.down(skip), condition)
        h = F.interpolate(self.up(h), scale_factor=2)
        return self.head(self.decoder(torch.cat([h, skip], dim=1), condition))


# %% wrong="06.3" hint="`down` must read what `encoder`"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = F.silu(self.encoder(self.stem(x), condition), inplace=True)
        h = self.middle(self.down(skip), condition)
        h = self.up(F.interpolate(h, scale_factor=2))
        return self.head(self.decoder(torch.cat([h, skip], dim=1), condition))


# %% wrong="06.3" hint="must each be given the condition"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = self.middle(self.down(skip), torch.zeros_like(condition))
        h = self.up(F.interpolate(h, scale_factor=2))
        return self.head(self.decoder(torch.cat([h, skip], dim=1), condition))


# %% wrong="06.3" hint="3 x 3 convolutions"
class TinyUNet(nn.Module):
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        skip = self.encoder(self.stem(x), condition)  # (B, channels, H, W)
        h = self.middle(self.down(skip), condition)  # (B, 2 channels, H / 2, W / 2)
        h = self.up(F.interpolate(h, scale_factor=2, mode="nearest"))  # (B, channels, H, W)
        return self.head(self.decoder(torch.cat([h, skip], dim=1), condition))


# %% wrong="06.3" hint="only the head starts at zero"
class TinyUNet(nn.Module):
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = embeddings.zero_init(nn.Conv2d(2 * channels, channels, 3, padding=1))
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        skip = self.encoder(self.stem(x), condition)  # (B, channels, H, W)
        h = self.middle(self.down(skip), condition)  # (B, 2 channels, H / 2, W / 2)
        h = self.up(F.interpolate(h, scale_factor=2, mode="nearest"))  # (B, channels, H, W)
        return self.head(self.decoder(torch.cat([h, skip], dim=1), condition))


# %% right="06.3" name="upsampling by repeats"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = nn.Conv2d(channels, 1, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x, condition):
        skips = []
        h = self.encoder(self.stem(x), condition)
        skips.append(h)
        h = self.middle(self.down(h), condition)
        h = self.up(h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
        return self.head(self.decoder(torch.cat((h, skips.pop()), dim=1), condition))


# %% right="06.3" name="layers in a dictionary, upsample module"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        sizes = {"stem": (1, channels), "up": (2 * channels, channels), "head": (channels, 1)}
        for name, (before, after) in sizes.items():
            setattr(self, name, nn.Conv2d(before, after, 3, padding=1))
        self.down = nn.Conv2d(channels, 2 * channels, 3, 2, 1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.larger = nn.Upsample(scale_factor=2, mode="nearest")
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.zero_()

    def forward(self, x, condition):
        fine = self.encoder(self.stem(x), condition)
        coarse = self.middle(self.down(fine), condition)
        joined = torch.cat([self.up(self.larger(coarse)), fine], dim=-3)
        return self.head(self.decoder(joined, condition))


# %% right="06.3" name="upsampling to the skip's size, in-place free"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()

        def conv(before, after, stride=1):
            return nn.Conv2d(before, after, 3, stride=stride, padding=1)

        def block(before, after):
            return unet.ResidualBlock(before, after, dim)

        self.stem, self.encoder, self.down = (
            conv(1, channels),
            block(channels, channels),
            conv(channels, 2 * channels, 2),
        )
        self.middle, self.up = block(2 * channels, 2 * channels), conv(2 * channels, channels)
        self.decoder, self.head = block(2 * channels, channels), embeddings.zero_init(conv(channels, 1))

    def forward(self, x, condition):
        skip = self.encoder(self.stem(x), condition)
        h = self.middle(self.down(skip), condition)
        h = F.interpolate(h, size=skip.shape[2:])
        return self.head(self.decoder(torch.hstack([self.up(h), skip]), condition))


# %% right="06.3" name="condition by keyword"
class TinyUNet(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x, condition):
        skip = self.encoder(x=self.stem(x), condition=condition)
        h = self.middle(self.down(skip), condition=condition)
        h = self.up(F.interpolate(h, scale_factor=2, mode="nearest-exact"))
        return self.head(self.decoder(torch.cat([h, skip], dim=1), condition=condition))


# %% wrong="06.4" hint="a reshape alone cuts memory"
def patchify(x, patch):
    return x.reshape(x.shape[0], -1, x.shape[1] * patch**2)


def unpatchify(tokens, patch, height, width):
    return tokens.reshape(len(tokens), -1, height, width)


# %% wrong="06.4" hint="not the one below it"
def patchify(x, patch):
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 4, 2, 1, 3, 5).reshape(batch, -1, channels * patch**2)


def unpatchify(tokens, patch, height, width):
    tokens = tokens.reshape(len(tokens), width // patch, height // patch, -1, patch, patch)
    return tokens.permute(0, 3, 2, 4, 1, 5).reshape(len(tokens), -1, height, width)


# %% wrong="06.4" hint="here the pixels do"
def patchify(x, patch):
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, channels * patch**2)


def unpatchify(tokens, patch, height, width):
    tokens = tokens.reshape(len(tokens), height // patch, width // patch, patch, patch, -1)
    return tokens.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, height, width)


# %% wrong="06.4" hint="each patch is transposed"
def patchify(x, patch):
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 1, 5, 3).reshape(batch, -1, channels * patch**2)


def unpatchify(tokens, patch, height, width):
    tokens = tokens.reshape(len(tokens), height // patch, width // patch, -1, patch, patch)
    return tokens.permute(0, 3, 1, 5, 2, 4).reshape(len(tokens), -1, height, width)


# %% wrong="06.4" hint="unpatchify scatters"
def patchify(x, patch):
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)


def unpatchify(tokens, patch, height, width):
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)


# %% wrong="06.4" hint="a (2, 3, 4, 6) image has 6 patches"
def patchify(x, patch):
    return F.unfold(x, patch, stride=patch)


def unpatchify(tokens, patch, height, width):
    return F.fold(tokens, (height, width), patch, stride=patch)


# %% wrong="06.4" hint="pixels a side stop with"
def patchify(x, patch):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * 4)


def unpatchify(tokens, patch, height, width):
    z = tokens.reshape(len(tokens), height // 2, width // 2, -1, 2, 2)
    return z.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)


# %% wrong="06.4" hint="unpatchify transposes each patch"
def patchify(x, patch):
    return F.unfold(x, patch, stride=patch).transpose(1, 2)


def unpatchify(tokens, patch, height, width):
    grid = tokens.unflatten(2, (-1, patch, patch)).unflatten(1, (height // patch, width // patch))
    return torch.einsum("bijcuv->bcivju", grid).flatten(4, 5).flatten(2, 3)


# %% wrong="06.4" hint="unpatchify takes the pixels first"
def patchify(x, patch):
    return F.unfold(x, patch, stride=patch).transpose(1, 2)


def unpatchify(tokens, patch, height, width):
    grid = tokens.unflatten(2, (patch, patch, -1)).unflatten(1, (height // patch, width // patch))
    return torch.einsum("bijuvc->bciujv", grid).flatten(4, 5).flatten(2, 3)


# %% wrong="06.4" hint="the answer calls patchify"
def patchify(x, patch):
    return dit.patchify(x, patch)


def unpatchify(tokens, patch, height, width):
    return dit.unpatchify(tokens, patch, height, width)


# %% wrong="06.4" hint="return a tensor"
def patchify(x, patch):
    print(F.unfold(x, patch, stride=patch).transpose(1, 2))


def unpatchify(tokens, patch, height, width):
    print(F.fold(tokens.transpose(1, 2), (height, width), patch, stride=patch))


# %% right="06.4" name="unfold and fold"
def patchify(x, patch):
    return F.unfold(x, patch, stride=patch).transpose(1, 2)


def unpatchify(tokens, patch, height, width):
    return F.fold(tokens.transpose(1, 2), (height, width), patch, stride=patch)


# %% right="06.4" name="loops"
def patchify(x, patch):
    tokens = []
    for i in range(0, x.shape[2], patch):
        for j in range(0, x.shape[3], patch):
            tokens.append(x[:, :, i : i + patch, j : j + patch].flatten(1))
    return torch.stack(tokens, dim=1)


def unpatchify(tokens, patch, height, width):
    x = torch.empty(len(tokens), tokens.shape[2] // patch**2, height, width, dtype=tokens.dtype)
    n = 0
    for i in range(0, height, patch):
        for j in range(0, width, patch):
            x[:, :, i : i + patch, j : j + patch] = tokens[:, n].reshape(len(tokens), -1, patch, patch)
            n += 1
    return x


# %% right="06.4" name="pixel shuffle"
def patchify(x, patch):
    return F.pixel_unshuffle(x, patch).flatten(2).transpose(1, 2)


def unpatchify(tokens, patch, height, width):
    grid = tokens.transpose(1, 2).unflatten(2, (height // patch, width // patch))
    return F.pixel_shuffle(grid, patch)


# %% right="06.4" name="unfold on tensor"
def patchify(x, patch):
    cells = x.unfold(2, patch, patch).unfold(3, patch, patch)
    return cells.movedim(1, 3).flatten(3).flatten(1, 2)


def unpatchify(tokens, patch, height, width):
    grid = tokens.unflatten(2, (-1, patch, patch)).unflatten(1, (height // patch, width // patch))
    return torch.einsum("bijcuv->bciujv", grid).flatten(4, 5).flatten(2, 3)


# %% wrong="06.5" hint="must sum to 1 over the keys"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    q, k, v = (part.reshape(b, n, heads, -1).transpose(1, 2) for part in (x @ w_qkv.T).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(dim // heads)).softmax(dim=2)
    return (weights @ v).transpose(1, 2).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="scaled by 1/d;"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    q, k, v = (part.reshape(b, n, heads, -1).transpose(1, 2) for part in (x @ w_qkv.T).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / (dim // heads)).softmax(dim=3)
    return (weights @ v).transpose(1, 2).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="scaled by 1/sqrt(dim);"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    q, k, v = (part.reshape(b, n, heads, -1).transpose(1, 2) for part in (x @ w_qkv.T).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(dim)).softmax(dim=3)
    return (weights @ v).transpose(1, 2).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="scaled by 1;"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    q, k, v = (part.reshape(b, n, heads, -1).transpose(1, 2) for part in (x @ w_qkv.T).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3)).softmax(dim=3)
    return (weights @ v).transpose(1, 2).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="were tokens and heads mixed"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    q, k, v = (part.reshape(b, heads, n, -1) for part in (x @ w_qkv.T).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(dim // heads)).softmax(dim=3)
    return (weights @ v).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="merged in the wrong order"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    q, k, v = (part.reshape(b, n, heads, -1).transpose(1, 2) for part in (x @ w_qkv.T).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(dim // heads)).softmax(dim=3)
    return (weights @ v).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="w_out, is missing"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    q, k, v = (part.reshape(b, n, heads, -1).transpose(1, 2) for part in (x @ w_qkv.T).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(dim // heads)).softmax(dim=3)
    return (weights @ v).transpose(1, 2).reshape(b, n, dim)


# %% wrong="06.5" hint="queries and keys are exchanged"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    k, q, v = (part.reshape(b, n, heads, -1).transpose(1, 2) for part in (x @ w_qkv.T).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(dim // heads)).softmax(dim=3)
    return (weights @ v).transpose(1, 2).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="the answer calls scaled_dot"
def self_attention(x, w_qkv, w_out, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in F.linear(x, w_qkv).chunk(3, 2))
    return F.linear(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), w_out)


# %% wrong="06.5" hint="attention with one head"
def self_attention(x, w_qkv, w_out, heads):
    q, k, v = (x @ w_qkv.T).chunk(3, dim=-1)
    w = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(x.shape[-1] // heads), -1)
    return w @ v @ w_out.T


# %% wrong="06.5" hint="check which columns belong"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    q, k, v = (p.reshape(b, n, dim // heads, heads).permute(0, 3, 1, 2) for p in (x @ w_qkv.T).chunk(3, dim=-1))
    w = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(dim // heads), -1)
    return (w @ v).permute(0, 2, 3, 1).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="read head by head"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    qkv = (x @ w_qkv.T).reshape(b, n, heads, 3, dim // heads)
    q, k, v = (qkv[:, :, :, i].transpose(1, 2) for i in range(3))
    w = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(dim // heads), -1)
    return (w @ v).transpose(1, 2).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="no mask hides any"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    q, k, v = (p.reshape(b, n, heads, -1).transpose(1, 2) for p in (x @ w_qkv.T).chunk(3, dim=-1))
    logits = q @ k.transpose(2, 3) / math.sqrt(dim // heads)
    logits = logits.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
    return (logits.softmax(-1) @ v).transpose(1, 2).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="must give float64"
def self_attention(x, w_qkv, w_out, heads):
    x, w_qkv, w_out = x.float(), w_qkv.float(), w_out.float()
    b, n, dim = x.shape
    q, k, v = (p.reshape(b, n, heads, -1).transpose(1, 2) for p in (x @ w_qkv.T).chunk(3, dim=-1))
    logits = q @ k.transpose(2, 3) / math.sqrt(dim // heads)
    return (logits.softmax(-1) @ v).transpose(1, 2).reshape(b, n, dim) @ w_out.T


# %% wrong="06.5" hint="scaled by 1/sqrt(N);"
def self_attention(x: Tensor, w_qkv: Tensor, w_out: Tensor, heads: int) -> Tensor:
    batch, count, dim = x.shape
    q, k, v = (
        part.reshape(batch, count, heads, dim // heads).transpose(1, 2)  # (B, heads, N, dim / heads)
        for part in (x @ w_qkv.T).chunk(3, dim=2)
    )
    weights = (q @ k.transpose(2, 3) / math.sqrt(count)).softmax(dim=3)  # (B, heads, N, N): query, key
    return (weights @ v).transpose(1, 2).reshape(batch, count, dim) @ w_out.T


# %% right="06.5" name="einsum"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    qkv = torch.einsum("bnd,ed->bne", x, w_qkv).view(b, n, 3, heads, dim // heads)
    q, k, v = qkv.unbind(2)
    logits = torch.einsum("bihd,bjhd->bhij", q, k) * (dim // heads) ** -0.5
    mixed = torch.einsum("bhij,bjhd->bihd", torch.softmax(logits, -1), v)
    return F.linear(mixed.reshape(b, n, dim), w_out)


# %% right="06.5" name="a loop over heads, softmax by hand"
def self_attention(x, w_qkv, w_out, heads):
    dim = x.shape[2]
    d = dim // heads
    pieces = []
    for h in range(heads):
        q = x @ w_qkv[h * d : (h + 1) * d].T
        k = x @ w_qkv[dim + h * d : dim + (h + 1) * d].T
        v = x @ w_qkv[2 * dim + h * d : 2 * dim + (h + 1) * d].T
        logits = q @ k.mT / d**0.5
        weights = torch.exp(logits - logits.amax(-1, keepdim=True))
        pieces.append(weights / weights.sum(-1, keepdim=True) @ v)
    return torch.cat(pieces, dim=2) @ w_out.T


# %% right="06.5" name="scaled queries, a loop over samples"
def self_attention(x, w_qkv, w_out, heads):
    out = []
    for tokens in x:
        n, dim = tokens.shape
        q, k, v = (w_qkv @ tokens.T).reshape(3, heads, dim // heads, n)
        weights = ((q * (dim // heads) ** -0.5).transpose(1, 2) @ k).softmax(-1)
        out.append(w_out @ (v @ weights.transpose(1, 2)).reshape(dim, n))
    return torch.stack(out).transpose(1, 2)


# %% right="06.5" name="baddbmm"
def self_attention(x, w_qkv, w_out, heads):
    b, n, dim = x.shape
    d = dim // heads
    qkv = F.linear(x, w_qkv).reshape(b, n, 3 * heads, d).permute(2, 0, 1, 3)
    out = torch.zeros_like(x)
    for h in range(heads):
        w = F.softmax(torch.bmm(qkv[h], qkv[heads + h].mT).div(d**0.5), dim=-1)
        out += torch.bmm(w, qkv[2 * heads + h]) @ w_out[:, h * d : (h + 1) * d].T
    return out


# %% wrong="06.6" hint="0 times 0 has no gradient"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        for layer in (self.modulation, self.attention.out, self.mlp[2]):
            embeddings.zero_init(layer)

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


# %% wrong="06.6" hint="attention.out.weight and mlp.2.weight started at zero too"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))
        for layer in (self.attention.out, self.mlp[2]):
            nn.init.zeros_(layer.weight)

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


# %% wrong="06.6" hint="at the start the block must pass x unchanged"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


# %% wrong="06.6" hint="a gate belongs to its branch"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = gate1 * (x + self.attention(self.norm1(x) * (1 + scale1) + shift1))
        return gate2 * (x + self.mlp(self.norm2(x) * (1 + scale2) + shift2))


# %% wrong="06.6" hint="nothing reaches the branches"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(self.norm1(x) * scale1 + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * scale2 + shift2)


# %% wrong="06.6" hint="norms must have no weights of their own"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


# %% wrong="06.6" hint="must read what the first one has made"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        first = gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        second = gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)
        return x + first + second


# %% wrong="06.6" hint="shifts and scales are exchanged"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


# %% wrong="06.6" hint="lands on the tokens"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


# %% wrong="06.6" hint="eps=1e-6"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        a, b, c, d, e, f = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + c * self.attention(self.norm1(x) * (1 + b) + a)
        return x + f * self.mlp(self.norm2(x) * (1 + e) + d)


# %% wrong="06.6" hint="by tanh"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU(), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        a, b, c, d, e, f = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + c * self.attention(self.norm1(x) * (1 + b) + a)
        return x + f * self.mlp(self.norm2(x) * (1 + e) + d)


# %% wrong="06.6" hint="the modulation starts at zero, but x is changed"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        a, b, c, d, e, f = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + (1 + c) * self.attention(self.norm1(x) * (1 + b) + a)
        return x + (1 + f) * self.mlp(self.norm2(x) * (1 + e) + d)


# %% wrong="06.6" hint="in the wrong order or place"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        a, b, c, d, e, f = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + f * self.attention(self.norm1(x) * (1 + b) + a)
        return x + c * self.mlp(self.norm2(x) * (1 + e) + d)


# %% wrong="06.6" hint="plain transformer block"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        a, b, c, d, e, f = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + c * self.attention(self.norm1(x) * (1 + b) + a)
        return x + f * self.mlp(x * (1 + e) + d)


# %% wrong="06.6" hint="reads the condition as it is"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        a, b, c, d, e, f = self.modulation(F.silu(condition))[:, None].chunk(6, dim=2)
        x = x + c * self.attention(self.norm1(x) * (1 + b) + a)
        return x + f * self.mlp(self.norm2(x) * (1 + e) + d)


# %% wrong="06.6" hint="the answer calls DiTBlock"
class AdaLNBlock(dit.DiTBlock):
    pass


# %% right="06.6" name="one vector of six, indexed"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.attention, hidden = SelfAttention(width, heads), expand * width
        self.norm1, self.norm2 = (nn.LayerNorm(width, 1e-6, elementwise_affine=False) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x, condition):
        six = self.modulation(condition).reshape(len(x), 6, 1, -1)
        for k, norm, branch in ((0, self.norm1, self.attention), (3, self.norm2, self.mlp)):
            h = norm(x)
            x = x + six[:, k + 2] * branch(h + six[:, k + 1] * h + six[:, k])
        return x


# %% right="06.6" name="addcmul and functional norm"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.width = width
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, expand * width), nn.GELU(approximate="tanh"), nn.Linear(expand * width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        with torch.no_grad():
            self.modulation.weight.fill_(0)
            self.modulation.bias.fill_(0)
        self.norm1 = self.norm2 = lambda h: F.layer_norm(h, (width,), eps=1e-6)

    def forward(self, x, condition):
        vectors = [v.unsqueeze(1) for v in self.modulation(condition).split(self.width, dim=1)]
        x = torch.addcmul(x, vectors[2], self.attention(torch.addcmul(vectors[0], self.norm1(x), vectors[1] + 1)))
        return torch.addcmul(x, vectors[5], self.mlp(torch.addcmul(vectors[3], self.norm2(x), vectors[4] + 1)))


# %% right="06.6" name="a modulating function inside"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, expand * width), nn.GELU(approximate="tanh"), nn.Linear(expand * width, width)
        )
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x, condition):
        def modulate(h, shift, scale):
            return (scale[:, None, :] + 1) * h + shift[:, None, :]

        a, b, c, d, e, f = self.modulation(condition).tensor_split(6, dim=-1)
        x = x + c[:, None, :] * self.attention(modulate(self.norm1(x), a, b))
        x = x + f[:, None, :] * self.mlp(modulate(self.norm2(x), d, e))
        return x


# %% right="06.6" name="view by six"
class AdaLNBlock(nn.Module):
    def __init__(self, width, heads, expand):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU("tanh"), nn.Linear(expand * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        self.modulation.weight.data *= 0
        self.modulation.bias.data *= 0

    def forward(self, x, condition):
        p = self.modulation(condition).unflatten(1, (6, -1)).unsqueeze(2).unbind(1)
        x = x + p[2] * self.attention((1 + p[1]) * self.norm1(x) + p[0])
        x = x + p[5] * self.mlp((1 + p[4]) * self.norm2(x) + p[3])
        return x


# %% wrong="06.7" hint="this is 1 / variance"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = self.autoencoder.encode(images)
        self.scale = float(1 / (mean.var() + log_variance.exp().mean()))
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * (mean + torch.exp(0.5 * log_variance) * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="the standard deviation itself"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = self.autoencoder.encode(images)
        self.scale = float((mean.var() + log_variance.exp().mean()) ** 0.5)
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * (mean + torch.exp(0.5 * log_variance) * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="the spread of the means alone"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, _ = self.autoencoder.encode(images)
        self.scale = float(1 / mean.std())
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * (mean + torch.exp(0.5 * log_variance) * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="root mean square"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = self.autoencoder.encode(images)
        self.scale = float((mean.square() + log_variance.exp()).mean() ** -0.5)
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * (mean + torch.exp(0.5 * log_variance) * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="a standard deviation was added to a variance"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = self.autoencoder.encode(images)
        self.scale = float((mean.var() + (0.5 * log_variance).exp().mean()) ** -0.5)
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * (mean + torch.exp(0.5 * log_variance) * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="the noise is multiplied by the variance"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = self.autoencoder.encode(images)
        self.scale = float((mean.var() + log_variance.exp().mean()) ** -0.5)
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * (mean + torch.exp(log_variance) * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="the noise is not scaled"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = self.autoencoder.encode(images)
        self.scale = float((mean.var() + log_variance.exp().mean()) ** -0.5)
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * mean + torch.exp(0.5 * log_variance) * noise

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="decode must undo the scale"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = self.autoencoder.encode(images)
        self.scale = float((mean.var() + log_variance.exp().mean()) ** -0.5)
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * (mean + torch.exp(0.5 * log_variance) * noise)

    def decode(self, z):
        return self.autoencoder.decode(z * self.scale)


# %% wrong="06.7" hint="the answer calls latent_statistics"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, torch.tensor(1.0)

    def fit(self, images):
        self.scale = torch.tensor(1 / latent_statistics(self.autoencoder, images)[1])
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return torch.addcmul(mean, (log_variance / 2).exp(), noise) * self.scale

    def decode(self, z):
        return self.autoencoder.decode(z * self.scale**-1)


# %% wrong="06.7" hint="do not have standard deviation 1"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        m, lv = self.autoencoder.encode(images)
        self.scale = float(1 / (m.std() + (0.5 * lv).exp().mean()))
        return self.scale

    def encode(self, images, noise):
        m, lv = self.autoencoder.encode(images)
        return self.scale * (m + (0.5 * lv).exp() * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="two calls with the same noise"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        m, lv = self.autoencoder.encode(images)
        self.scale = float((m.var() + lv.exp().mean()) ** -0.5)
        return self.scale

    def encode(self, images, noise):
        m, lv = self.autoencoder.encode(images)
        return self.scale * (m + (0.5 * lv).exp() * torch.randn_like(m))

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="keep the scale in self.scale"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        m, lv = self.autoencoder.encode(images)
        return float((m.var() + lv.exp().mean()) ** -0.5)

    def encode(self, images, noise):
        m, lv = self.autoencoder.encode(images)
        return self.scale * (m + (0.5 * lv).exp() * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="not to be squared"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        m, lv = self.autoencoder.encode(images)
        self.scale = float((m.var() + lv.exp().square().mean()) ** -0.5)
        return self.scale

    def encode(self, images, noise):
        m, lv = self.autoencoder.encode(images)
        return self.scale * (m + lv.exp() * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="nothing subtracted"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        m, lv = self.autoencoder.encode(images)
        self.center = m.mean()
        self.scale = float((m.var() + lv.exp().mean()) ** -0.5)
        return self.scale

    def encode(self, images, noise):
        m, lv = self.autoencoder.encode(images)
        return self.scale * (m - self.center + (0.5 * lv).exp() * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale + self.center)


# %% wrong="06.7" hint="the scale is still 1"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        return self.scale

    def encode(self, images, noise):
        return self.scale * self.autoencoder.encode(images)[0]

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="the answer calls draw"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = self.autoencoder.encode(images)
        self.scale = float((mean.var() + log_variance.exp().mean()) ** -0.5)
        return self.scale

    def encode(self, images, noise):
        return self.scale * draw(*self.autoencoder.encode(images), noise=noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.7" hint="fit must read its argument"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = self.autoencoder.encode(digits)
        self.scale = float((mean.var() + log_variance.exp().mean()) ** -0.5)
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * (mean + torch.exp(0.5 * log_variance) * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% right="06.7" name="second moments"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        mean, log_variance = (part.double() for part in self.autoencoder.encode(images))
        second = (mean**2 + log_variance.exp()).mean()
        self.scale = 1 / math.sqrt(second - mean.mean() ** 2)
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        return (mean + log_variance.exp().sqrt() * noise) * self.scale

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% right="06.7" name="image by image"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        means, variances = [], []
        for image in images:
            mean, log_variance = self.autoencoder.encode(image[None])
            means.append(mean.flatten())
            variances.append(log_variance.exp().flatten())
        total = torch.cat(means).var(unbiased=True) + torch.cat(variances).mean()
        self.scale = total.rsqrt().item()
        return self.scale

    def encode(self, images, noise):
        mean, log_variance = self.autoencoder.encode(images)
        std = torch.exp(log_variance) ** 0.5
        return self.scale * mean + self.scale * std * noise

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% right="06.7" name="numpy"
class Latents:
    def __init__(self, autoencoder):
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images):
        import numpy as np

        m, lv = self.autoencoder.encode(images)
        self.scale = 1 / np.sqrt(np.var(m.numpy()) + np.mean(np.exp(lv.numpy())))
        return self.scale

    def encode(self, images, noise):
        m, lv = self.autoencoder.encode(images)
        return torch.tensor(self.scale) * (m + torch.sqrt(torch.exp(lv)) * noise)

    def decode(self, z):
        return self.autoencoder.decode(z / self.scale)


# %% wrong="06.8" hint="exactly half"
def block_flops(tokens, width, expand):
    return tokens * width**2 * (4 + 2 * expand) + 2 * tokens**2 * width + 6 * width**2


def crossover(width, expand):
    return (2 + expand) * width


# %% wrong="06.8" hint="the modulation is missing"
def block_flops(tokens, width, expand):
    return 2 * tokens * width**2 * (4 + 2 * expand) + 4 * tokens**2 * width


def crossover(width, expand):
    return (2 + expand) * width


# %% wrong="06.8" hint="computed once for the image"
def block_flops(tokens, width, expand):
    return 2 * tokens * width**2 * (4 + 2 * expand + 6) + 4 * tokens**2 * width


def crossover(width, expand):
    return (2 + expand) * width


# %% wrong="06.8" hint="one of the two quadratic products"
def block_flops(tokens, width, expand):
    return 2 * tokens * width**2 * (4 + 2 * expand) + 2 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    return (2 + expand) * width


# %% wrong="06.8" hint="the output layer of attention is missing"
def block_flops(tokens, width, expand):
    return 2 * tokens * width**2 * (3 + 2 * expand) + 4 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    return (2 + expand) * width


# %% wrong="06.8" hint="the mlp has two layers"
def block_flops(tokens, width, expand):
    return 2 * tokens * width**2 * (4 + expand) + 4 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    return (2 + expand) * width


# %% wrong="06.8" hint="the mlp is linear in the number of tokens too"
def block_flops(tokens, width, expand):
    return 2 * tokens * width**2 * (4 + 2 * expand) + 4 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    return 2 * width


# %% wrong="06.8" hint="there are two quadratic products"
def block_flops(tokens, width, expand):
    return 2 * tokens * width**2 * (4 + 2 * expand) + 4 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    return (4 + 2 * expand) * width


# %% wrong="06.8" hint="crossover must depend on expand"
def block_flops(tokens, width, expand):
    return 2 * tokens * width**2 * (4 + 2 * expand) + 4 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    return 6 * width


# %% wrong="06.8" hint="the answer calls FlopCounterMode"
def block_flops(tokens, width, expand):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        dit.DiTBlock(width, 1, expand)(torch.zeros(1, tokens, width), torch.zeros(1, width))
    return counter.get_total_flops()


def crossover(width, expand):
    n = 1
    while 4 * n * n * width < (8 + 4 * expand) * n * width**2:
        n += 1
    return n


# %% wrong="06.8" hint="three products, not one"
def block_flops(tokens, width, expand):
    return 2 * (tokens * width**2 * 2 + 2 * expand * tokens * width**2 + 2 * tokens**2 * width + 6 * width**2)


def crossover(width, expand):
    return (2 + expand) * width


# %% wrong="06.8" hint="does not grow with the number"
def block_flops(tokens, width, expand):
    return (8 + 4 * expand) * tokens * width**2 + 4 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    return (5 + expand) * width


# %% wrong="06.8" hint="the formula says 9,273"
def block_flops(tokens, width, expand):
    return (8 + 4 * expand) * tokens * width**2 + 4 * tokens**2 * width + 12 * width**2 + tokens**2


def crossover(width, expand):
    return (2 + expand) * width


# %% wrong="06.8" hint="the formula says 69,312"
def block_flops(tokens, width, expand):
    return 24 * tokens * width**2 + 4 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    return (2 + expand) * width


# %% wrong="06.8" hint="crossover must return a number"
def block_flops(tokens, width, expand):
    return (8 + 4 * expand) * tokens * width**2 + 4 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    print((2 + expand) * width)


# %% wrong="06.8" hint="set the two equal"
def block_flops(tokens, width, expand):
    return (8 + 4 * expand) * tokens * width**2 + 4 * tokens**2 * width + 12 * width**2


def crossover(width, expand):
    return ((2 + expand) * width) ** 0.5


# %% right="06.8" name="product by product"
def block_flops(tokens, width, expand):
    def product(a, b, c):
        return 2 * a * b * c

    total = product(tokens, width, 3 * width) + product(tokens, width, tokens) + product(tokens, tokens, width)
    total += product(tokens, width, width)
    total += product(tokens, width, expand * width) + product(tokens, expand * width, width)
    return total + product(1, width, 6 * width)


def crossover(width, expand):
    return (8 + 4 * expand) * width**2 / (4 * width)


# %% right="06.8" name="as floats, factored"
def block_flops(tokens, width, expand):
    return 4.0 * width * (tokens * ((2 + expand) * width + tokens) + 3 * width)


def crossover(width, expand):
    return 2.0 * width + expand * width


# %% right="06.8" name="list of shapes"
def block_flops(tokens, width, expand):
    products = [(tokens, width, width)] * 4
    products += [(tokens, width, tokens), (tokens, tokens, width)]
    products += [(tokens, width, width)] * (2 * expand) + [(1, width, 6 * width)]
    return sum(2 * a * b * c for a, b, c in products)


def crossover(width, expand):
    from fractions import Fraction

    return float(Fraction(8 + 4 * expand, 4) * width)
