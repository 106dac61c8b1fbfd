"""Wrong and right answers to exercise 16: wrong ones must be caught, each with its own hint; right ones must pass."""


# %% wrong="16.1" hint="write yourself"
def adapted(x, weight, bias, adapters):
    net = nn.Sequential(nn.Linear(weight.shape[1], weight.shape[0])).double()
    with torch.no_grad():
        net[0].weight.copy_(weight)
        net[0].bias.copy_(bias)
        for i, (A, B, alpha, w) in enumerate(adapters):
            load_lora(net, {"0.A": A, "0.B": B, "alpha": torch.tensor(alpha)}, w, name=str(i))
        return net(x)


# %% wrong="16.1" hint="plain layer, with its bias"
def adapted(x, weight, bias, adapters):
    out = x @ weight.T
    for A, B, alpha, w in adapters:
        out = out + w * alpha / len(A) * (x @ A.T) @ B.T
    return out


# %% wrong="16.1" hint="must be scaled by alpha / r"
def adapted(x, weight, bias, adapters):
    out = x @ weight.T + bias
    for A, B, _, w in adapters:
        out = out + w * (x @ A.T) @ B.T
    return out


# %% wrong="16.1" hint="divided by the rank, the number"
def adapted(x, weight, bias, adapters):
    out = x @ weight.T + bias
    for A, B, alpha, w in adapters:
        out = out + w * alpha * (x @ A.T) @ B.T
    return out


# %% wrong="16.1" hint="not multiplied"
def adapted(x, weight, bias, adapters):
    out = x @ weight.T + bias
    for A, B, alpha, w in adapters:
        out = out + w * alpha * len(A) * (x @ A.T) @ B.T
    return out


# %% wrong="16.1" hint="not of its columns"
def adapted(x, weight, bias, adapters):
    out = x @ weight.T + bias
    for A, B, alpha, w in adapters:
        out = out + w * alpha / A.shape[1] * (x @ A.T) @ B.T
    return out


# %% wrong="16.1" hint="multiplied by its weight w"
def adapted(x, weight, bias, adapters):
    out = x @ weight.T + bias
    for A, B, alpha, _ in adapters:
        out = out + alpha / len(A) * (x @ A.T) @ B.T
    return out


# %% wrong="16.1" hint="only the last adapter"
def adapted(x, weight, bias, adapters):
    plain = out = x @ weight.T + bias
    for A, B, alpha, w in adapters:
        out = plain + w * alpha / len(A) * (x @ A.T) @ B.T
    return out


# %% wrong="16.1" hint="the bias is added once, and not with an adapter again"
def adapted(x, weight, bias, adapters):
    out = x @ weight.T + bias
    for A, B, alpha, w in adapters:
        out = out + F.linear(w * alpha / len(A) * x @ A.T, B, bias)
    return out


# %% wrong="16.1" hint="the bias is added once, not once for each adapter"
def adapted(x, weight, bias, adapters):
    out = x @ weight.T
    for A, B, alpha, w in adapters:
        out = out + w * alpha / len(A) * (x @ A.T) @ B.T + bias
    return out


# %% wrong="16.1" hint="the plain layer is added once"
def adapted(x, weight, bias, adapters):
    out = torch.zeros(len(x), len(weight), dtype=x.dtype)
    for A, B, alpha, w in adapters:
        out = out + F.linear(x, weight + w * alpha / len(A) * B @ A, bias)
    return out


# %% wrong="16.1" hint="with the second adapter the bias came in again"
def adapted(x, weight, bias, adapters):
    out = x @ weight.T + bias
    for number, (A, B, alpha, w) in enumerate(adapters):
        out = out + w * alpha / len(A) * (x @ A.T) @ B.T + (bias if number else 0)
    return out


# %% wrong="16.1" hint="an argument was changed"
def adapted(x, weight, bias, adapters):
    for A, B, alpha, w in adapters:
        weight += w * alpha / len(A) * B @ A
    return x @ weight.T + bias


# %% right="16.1" name="one weight"
def adapted(x, weight, bias, adapters):
    total = weight.clone()
    for A, B, alpha, w in adapters:
        total += w * alpha / A.shape[0] * B @ A
    return F.linear(x, total, bias)


# %% right="16.1" name="all adapters as one of a larger rank"
def adapted(x, weight, bias, adapters):
    if not adapters:
        return F.linear(x, weight, bias)
    A = torch.cat([one[0] for one in adapters])
    B = torch.cat([B * (w * alpha / len(A)) for A, B, alpha, w in adapters], dim=1)
    return F.linear(x, weight, bias) + F.linear(F.linear(x, A), B)


# %% right="16.1" name="a sum over ranks"
def adapted(x, weight, bias, adapters):
    out = torch.einsum("ni,oi->no", x, weight) + bias
    for A, B, alpha, w in adapters:
        for k in range(len(A)):
            out = out + (w * alpha / len(A)) * torch.outer(x @ A[k], B[:, k])
    return out


# %% wrong="16.2" hint="write yourself"
def first_step(G, A, alpha, eta):
    net = nn.Sequential(nn.Linear(G.shape[1], len(G), bias=False)).double()
    add_lora(net, len(A), alpha, ["*"])
    net[0].lora[0].A.data.copy_(A)
    before = net[0].weight.detach().clone()
    (G * net[0].weight).sum().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter -= eta * parameter.grad
        change = net[0].weight - before
    return change, float(-(change * G).sum() / (change.norm() * G.norm()))


# %% wrong="16.2" hint="the sign: descent"
def first_step(G, A, alpha, eta):
    s = alpha / len(A)
    change = eta * s**2 * G @ A.T @ A
    return change, float((change * G).sum() / (change.norm() * G.norm()))


# %% wrong="16.2" hint="the scale comes in twice"
def first_step(G, A, alpha, eta):
    change = -eta * (alpha / len(A)) * G @ A.T @ A
    return change, float(-(change * G).sum() / (change.norm() * G.norm()))


# %% wrong="16.2" hint="the scale alpha / r is missing"
def first_step(G, A, alpha, eta):
    change = -eta * G @ A.T @ A
    return change, float(-(change * G).sum() / (change.norm() * G.norm()))


# %% wrong="16.2" hint="with r the number of rows of A"
def first_step(G, A, alpha, eta):
    change = -eta * alpha**2 * G @ A.T @ A
    return change, float(-(change * G).sum() / (change.norm() * G.norm()))


# %% wrong="16.2" hint="this is the full step"
def first_step(G, A, alpha, eta):
    return -eta * G, 1.0


# %% wrong="16.2" hint="AᵀA is no projection"
def first_step(G, A, alpha, eta):
    Q = torch.linalg.qr(A.T)[0]
    change = -eta * (alpha / len(A)) ** 2 * G @ Q @ Q.T
    return change, float(-(change * G).sum() / (change.norm() * G.norm()))


# %% wrong="16.2" hint="the sign of the cosine"
def first_step(G, A, alpha, eta):
    change = -eta * (alpha / len(A)) ** 2 * G @ A.T @ A
    return change, float((change * G).sum() / (change.norm() * G.norm()))


# %% wrong="16.2" hint="over both norms"
def first_step(G, A, alpha, eta):
    change = -eta * (alpha / len(A)) ** 2 * G @ A.T @ A
    return change, float(-(change * G).sum() / change.norm())


# %% wrong="16.2" hint="return the change and the cosine"
def first_step(G, A, alpha, eta):
    return -eta * (alpha / len(A)) ** 2 * G @ A.T @ A


# %% right="16.2" name="B first"
def first_step(G, A, alpha, eta):
    s = alpha / A.shape[0]
    B = -eta * s * (G @ A.mT)
    change = s * B @ A
    return change, F.cosine_similarity(change.flatten(), -G.flatten(), dim=0).item()


# %% right="16.2" name="by autograd"
def first_step(G, A, alpha, eta):
    B = torch.zeros(len(G), len(A), dtype=G.dtype, requires_grad=True)
    s = alpha / len(A)
    (slope,) = torch.autograd.grad((G * (s * B @ A)).sum(), B)
    change = s * (-eta * slope) @ A
    return change, float(-(change / change.norm() * G / G.norm()).sum())


# %% right="16.2" name="row by row"
def first_step(G, A, alpha, eta):
    change = torch.zeros_like(G)
    for a in A:
        change = change - eta * (alpha / len(A)) ** 2 * torch.outer(G @ a, a)
    return change, -torch.dot(change.flatten(), G.flatten()).item() / float(change.norm() * G.norm())


# %% wrong="16.3" hint="write yourself"
def best_adapter(D, rank, alpha):
    U, sigma, V = torch.svd_lowrank(D.flatten(1), q=min(D.flatten(1).shape))
    root = (sigma[:rank] * rank / alpha).sqrt()
    return (V[:, :rank] * root).T, U[:, :rank] * root, float(sigma[rank:].square().sum())


# %% wrong="16.3" hint="B A alone is the best matrix"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    root = sigma[:rank].sqrt()
    return root[:, None] * Vh[:rank], U[:, :rank] * root, float(sigma[rank:].square().sum())


# %% wrong="16.3" hint="the scale is alpha / r, not alpha"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    root = (sigma[:rank] / alpha).sqrt()
    return root[:, None] * Vh[:rank], U[:, :rank] * root, float(sigma[rank:].square().sum())


# %% wrong="16.3" hint="the largest singular values"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    root = (sigma[-rank:] * rank / alpha).sqrt()
    return root[:, None] * Vh[-rank:], U[:, -rank:] * root, float(sigma[:-rank].square().sum())


# %% wrong="16.3" hint="in the kernel's own order"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.permute(0, 2, 3, 1).flatten(1), full_matrices=False)
    root = (sigma[:rank] * rank / alpha).sqrt()
    return root[:, None] * Vh[:rank], U[:, :rank] * root, float(sigma[rank:].square().sum())


# %% wrong="16.3" hint="A alone has it"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    root = sigma[:rank].sqrt()
    return root[:, None] * Vh[:rank] * rank / alpha, U[:, :rank] * root, float(sigma[rank:].square().sum())


# %% wrong="16.3" hint="B alone has it"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    root = sigma[:rank].sqrt()
    return root[:, None] * Vh[:rank], U[:, :rank] * root * rank / alpha, float(sigma[rank:].square().sum())


# %% wrong="16.3" hint="each takes the root of a singular value"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    return Vh[:rank], U[:, :rank] * sigma[:rank] * rank / alpha, float(sigma[rank:].square().sum())


# %% wrong="16.3" hint="the error is a sum of squares"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    root = (sigma[:rank] * rank / alpha).sqrt()
    return root[:, None] * Vh[:rank], U[:, :rank] * root, float(sigma[rank:].sum())


# %% wrong="16.3" hint="not its root"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    root = (sigma[:rank] * rank / alpha).sqrt()
    return root[:, None] * Vh[:rank], U[:, :rank] * root, float(sigma[rank:].norm())


# %% right="16.3" name="the error of the difference"
def best_adapter(D, rank, alpha):
    matrix = D.reshape(len(D), -1)
    U, sigma, Vh = torch.linalg.svd(matrix, full_matrices=False)
    root = torch.diag((sigma[:rank] * rank / alpha).sqrt())
    A, B = root @ Vh[:rank], U[:, :rank] @ root
    return A, B, (matrix - alpha / rank * B @ A).square().sum().item()


# %% right="16.3" name="eigenvectors"
def best_adapter(D, rank, alpha):
    matrix = D.flatten(1)
    values, U = torch.linalg.eigh(matrix @ matrix.T)
    U = U.flip(1)[:, :rank]
    sigma = values.flip(0)[:rank].clamp(min=0).sqrt()
    root = (sigma * rank / alpha).sqrt()
    A = (U.T @ matrix) / sigma[:, None] * root[:, None]
    return A, U * root, float(matrix.square().sum() - (sigma**2).sum())


# %% right="16.3" name="balanced afterwards"
def best_adapter(D, rank, alpha):
    U, sigma, Vh = torch.linalg.svd(D.flatten(1), full_matrices=False)
    A, B = Vh[:rank], U[:, :rank] * sigma[:rank] * (rank / alpha)
    share = (B.norm() / A.norm()).sqrt()
    return A * share, B / share, float((sigma[rank:] ** 2).sum())


# %% wrong="16.4" hint="the answer calls grad"
def zero_gradients(phi, gamma, Z):
    leaves = [Z.clone().requires_grad_(), torch.zeros(len(Z)).double().requires_grad_(), phi.clone().requires_grad_()]
    return torch.autograd.grad((F.conv2d(leaves[2], leaves[0], leaves[1]) * gamma).sum(), leaves)


# %% wrong="16.4" hint="the answer calls backward"
def zero_gradients(phi, gamma, Z):
    leaves = [Z.clone().requires_grad_(), torch.zeros(len(Z)).double().requires_grad_(), phi.clone().requires_grad_()]
    torch.autograd.backward((F.conv2d(leaves[2], leaves[0], leaves[1]) * gamma).sum())
    return tuple(leaf.grad for leaf in leaves)


# %% wrong="16.4" hint="the sign of the gradient of Z"
def zero_gradients(phi, gamma, Z):
    of_Z = -torch.einsum("bohw,bihw->oi", gamma, phi)[..., None, None]
    return of_Z, -gamma.sum((0, 2, 3)), -torch.einsum("oi,bohw->bihw", Z[..., 0, 0], gamma)


# %% wrong="16.4" hint="a mean over the batch:"
def zero_gradients(phi, gamma, Z):
    of_Z = torch.einsum("bohw,bihw->boi", gamma, phi).mean(0)[..., None, None]
    return of_Z, gamma.sum((2, 3)).mean(0), torch.einsum("oi,bohw->bihw", Z[..., 0, 0], gamma)


# %% wrong="16.4" hint="a mean over the batch and the pixels"
def zero_gradients(phi, gamma, Z):
    of_Z = torch.einsum("bohw,bihw->oi", gamma, phi)[..., None, None]
    return of_Z, gamma.mean((0, 2, 3)), torch.einsum("oi,bohw->bihw", Z[..., 0, 0], gamma)


# %% wrong="16.4" hint="of Z is the sum over batch and pixels"
def zero_gradients(phi, gamma, Z):
    of_Z = torch.outer(gamma.sum((0, 2, 3)), phi.mean((0, 2, 3)))[..., None, None]
    return of_Z, gamma.sum((0, 2, 3)), torch.einsum("oi,bohw->bihw", Z[..., 0, 0], gamma)


# %% wrong="16.4" hint="gradient of phi is Zᵀ gamma"
def zero_gradients(phi, gamma, Z):
    of_Z = torch.einsum("bohw,bihw->oi", gamma, phi)[..., None, None]
    return of_Z, gamma.sum((0, 2, 3)), torch.einsum("oi,bohw->bihw", Z[..., 0, 0], gamma.flip(1))


# %% wrong="16.4" hint="of e is the sum of gamma"
def zero_gradients(phi, gamma, Z):
    of_Z = torch.einsum("bohw,bihw->oi", gamma, phi)[..., None, None]
    return of_Z, of_Z.sum((1, 2, 3)), torch.einsum("oi,bohw->bihw", Z[..., 0, 0], gamma)


# %% wrong="16.4" hint="must have shape"
def zero_gradients(phi, gamma, Z):
    of_Z = torch.einsum("bohw,bihw->oi", gamma, phi)
    return of_Z, gamma.sum((0, 2, 3)), torch.einsum("oi,bohw->bihw", Z[..., 0, 0], gamma)


# %% right="16.4" name="matrices"
def zero_gradients(phi, gamma, Z):
    B, i, H, W = phi.shape
    rows = gamma.permute(0, 2, 3, 1).reshape(-1, len(Z))
    features = phi.permute(0, 2, 3, 1).reshape(-1, i)
    of_phi = (rows @ Z.flatten(1)).reshape(B, H, W, i).permute(0, 3, 1, 2)
    return (rows.T @ features).reshape(Z.shape), rows.sum(0), of_phi


# %% right="16.4" name="a loop over pixels"
def zero_gradients(phi, gamma, Z):
    matrix = Z[:, :, 0, 0]
    of_Z, of_e, of_phi = torch.zeros_like(matrix), torch.zeros(len(Z)).double(), torch.zeros_like(phi)
    for b in range(len(phi)):
        for row in range(phi.shape[2]):
            for column in range(phi.shape[3]):
                slope = gamma[b, :, row, column]
                of_Z += torch.outer(slope, phi[b, :, row, column])
                of_e += slope
                of_phi[b, :, row, column] = matrix.T @ slope
    return of_Z[:, :, None, None], of_e, of_phi


# %% right="16.4" name="convolutions"
def zero_gradients(phi, gamma, Z):
    of_Z = F.conv2d(phi.transpose(0, 1), gamma.transpose(0, 1)).transpose(0, 1)
    return of_Z, gamma.flatten(2).sum(2).sum(0), F.conv_transpose2d(gamma, Z)


# %% wrong="16.5" hint="the strength has no effect"
def under_controls(own, controls, strengths):
    found = list(own)
    for control, strength in zip(controls, strengths, strict=True):
        if strength:
            found = [have + part for have, part in zip(found, control(), strict=True)]
    return found


# %% wrong="16.5" hint="the midcoder's features"
def under_controls(own, controls, strengths):
    found = list(own)
    for control, strength in zip(controls, strengths, strict=True):
        if strength:
            found = [have + strength * part for have, part in zip(found[:-1], control(), strict=False)] + found[-1:]
    return found


# %% wrong="16.5" hint="only the last control"
def under_controls(own, controls, strengths):
    found = list(own)
    for control, strength in zip(controls, strengths, strict=True):
        if strength:
            found = [have + strength * part for have, part in zip(own, control(), strict=True)]
    return found


# %% wrong="16.5" hint="must not be called"
def under_controls(own, controls, strengths):
    found = list(own)
    for control, strength in zip(controls, strengths, strict=True):
        found = [have + strength * part for have, part in zip(found, control(), strict=True)]
    return found


# %% wrong="16.5" hint="added, not averaged"
def under_controls(own, controls, strengths):
    found = list(own)
    for control, strength in zip(controls, strengths, strict=True):
        if strength:
            found = [have + strength * part / len(controls) for have, part in zip(found, control(), strict=True)]
    return found


# %% wrong="16.5" hint="an argument was changed"
def under_controls(own, controls, strengths):
    for control, strength in zip(controls, strengths, strict=True):
        if strength:
            for have, part in zip(own, control(), strict=True):
                have += strength * part
    return list(own)


# %% wrong="16.5" hint="is called once"
def under_controls(own, controls, strengths):
    found = list(own)
    for control, strength in zip(controls, strengths, strict=True):
        if strength:
            found = [have + strength * control()[at] for at, have in enumerate(found)]
    return found


# %% wrong="16.5" hint="without a control nothing is added"
def under_controls(own, controls, strengths):
    found = [torch.zeros_like(have) for have in own]
    for control, strength in zip(controls, strengths, strict=True):
        if strength:
            found = [have + strength * part for have, part in zip(found, control(), strict=True)]
    return found


# %% wrong="16.5" hint="also a negative one"
def under_controls(own, controls, strengths):
    found = list(own)
    for control, strength in zip(controls, strengths, strict=True):
        if strength > 0:
            found = [have + strength * part for have, part in zip(found, control(), strict=True)]
    return found


# %% wrong="16.5" hint="keep its sign"
def under_controls(own, controls, strengths):
    found = list(own)
    for control, strength in zip(controls, strengths, strict=True):
        if strength:
            found = [have + abs(strength) * part for have, part in zip(found, control(), strict=True)]
    return found


# %% right="16.5" name="sums first"
def under_controls(own, controls, strengths):
    given = [(strength, control()) for control, strength in zip(controls, strengths, strict=True) if strength != 0]
    return [have + sum(w * parts[at] for w, parts in given) if given else have for at, have in enumerate(own)]


# %% right="16.5" name="in place, on copies"
def under_controls(own, controls, strengths):
    found = [have.clone() for have in own]
    for control, strength in zip(controls, strengths, strict=True):
        if strength == 0:
            continue
        for have, part in zip(found, control(), strict=True):
            have.add_(part, alpha=strength)
    return found


# %% right="16.5" name="recursion"
def under_controls(own, controls, strengths):
    if not len(controls):
        return list(own)
    rest = under_controls(own, controls[1:], strengths[1:])
    if not strengths[0]:
        return rest
    return [torch.add(have, part, alpha=strengths[0]) for have, part in zip(rest, controls[0](), strict=True)]


# %% wrong="16.6" hint="the answer calls grad"
def addition(x, t, S, h, kappa, c):
    x = x.clone().requires_grad_()
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    D, P = x @ gain, S - t * S @ gain
    log = -((c - D @ h) ** 2) / (2 * (h @ P @ h + kappa**2))
    (slope,) = torch.autograd.grad(log.sum(), x)
    return slope * (1 - t) / t


# %% wrong="16.6" hint="the answer calls make_dual"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    P = S - t * S @ gain

    def log(x):
        return -((c - x @ gain @ h) ** 2) / (2 * (h @ P @ h + kappa**2))

    return torch.func.jacfwd(lambda x: log(x).sum())(x) * (1 - t) / t


# %% wrong="16.6" hint="the sign: where c is larger"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    P = S - t * S @ gain
    return (x @ gain @ h - c)[:, None] * (P @ h) / (h @ P @ h + kappa**2) / (1 - t)


# %% wrong="16.6" hint="must be divided by 1 - t"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    P = S - t * S @ gain
    return (c - x @ gain @ h)[:, None] * (P @ h) / (h @ P @ h + kappa**2)


# %% wrong="16.6" hint="this is the score's change"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    P = S - t * S @ gain
    return (c - x @ gain @ h)[:, None] * (P @ h) / (h @ P @ h + kappa**2) * t / (1 - t) ** 2


# %% wrong="16.6" hint="smaller than S"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    return (c - x @ gain @ h)[:, None] * (S @ h) / (h @ S @ h + kappa**2) / (1 - t)


# %% wrong="16.6" hint="not with h · x"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    P = S - t * S @ gain
    return (c - x @ h)[:, None] * (P @ h) / (h @ P @ h + kappa**2) / (1 - t)


# %% wrong="16.6" hint="what x_t already tells"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    P = S - t * S @ gain
    return c[:, None] * (P @ h) / (h @ P @ h + kappa**2) / (1 - t)


# %% wrong="16.6" hint="kappa² is missing"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    P = S - t * S @ gain
    return (c - x @ gain @ h)[:, None] * (P @ h) / (h @ P @ h) / (1 - t)


# %% wrong="16.6" hint="is kappa², not kappa"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    P = S - t * S @ gain
    return (c - x @ gain @ h)[:, None] * (P @ h) / (h @ P @ h + kappa) / (1 - t)


# %% wrong="16.6" hint="must be finite"
def addition(x, t, S, h, kappa, c):
    gain = t * torch.linalg.solve(t**2 * S + (1 - t) ** 2 * torch.eye(len(S)).double(), S)
    P = S - t * S @ gain
    score = gain @ h * (c - x @ gain @ h)[:, None] / (h @ P @ h + kappa**2)
    return score * ((1 - t) / torch.tensor(t, dtype=torch.float64))


# %% right="16.6" name="the two velocities"
def addition(x, t, S, h, kappa, c):
    eye = torch.eye(len(S), dtype=S.dtype)
    under = torch.linalg.inv(torch.linalg.inv(S) + torch.outer(h, h) / kappa**2)
    mean = c[:, None] * (under @ h) / kappa**2
    D = t * x @ torch.linalg.inv(t**2 * S + (1 - t) ** 2 * eye) @ S
    D_c = mean + t * (x - t * mean) @ torch.linalg.inv(t**2 * under + (1 - t) ** 2 * eye) @ under
    return (D_c - D) / (1 - t)


# %% right="16.6" name="information instead of covariance"
def addition(x, t, S, h, kappa, c):
    beta2 = (1 - t) ** 2
    seen = torch.linalg.inv(S) + t**2 / beta2 * torch.eye(len(S), dtype=S.dtype)
    D = torch.linalg.solve(seen, t / beta2 * x.T).T
    more = torch.linalg.inv(seen + torch.outer(h, h) / kappa**2)
    D_c = (t / beta2 * x + c[:, None] * h / kappa**2) @ more
    return (D_c - D) / (1 - t)


# %% right="16.6" name="point by point"
def addition(x, t, S, h, kappa, c):
    M = torch.linalg.inv(t * t * S + (1 - t) ** 2 * torch.eye(len(h), dtype=S.dtype))
    P = S - t * t * S @ M @ S
    rows = []
    for one, told in zip(x, c, strict=True):
        D = t * S @ M @ one
        rows.append(P @ h * (told - h @ D) / (h @ P @ h + kappa**2) / (1 - t))
    return torch.stack(rows)


# %% wrong="16.7" hint="write yourself"
def tolerant_f1(found, wanted, within):
    def thick(pixels):
        return F.max_pool2d(pixels.double(), 2 * within + 1, stride=1, padding=within) > 0

    return edge_f1(found, wanted).double() if not within else edge_f1(thick(found), thick(wanted)).double()


# %% wrong="16.7" hint="two pictures without edges agree"
def tolerant_f1(found, wanted, within):
    def share(pixels, others):
        near = F.max_pool2d(others.double(), 2 * within + 1, stride=1, padding=within) > 0
        return (pixels & near).sum((1, 2, 3)) / pixels.sum((1, 2, 3)).clamp(min=1)

    p, r = share(found, wanted), share(wanted, found)
    return 2 * p * r / (p + r).clamp(min=1e-12)


# %% wrong="16.7" hint="a line that is one row off agrees"
def tolerant_f1(found, wanted, within):
    both, total = (found & wanted).sum((1, 2, 3)), found.sum((1, 2, 3)) + wanted.sum((1, 2, 3))
    return torch.where(total > 0, 2 * both / total.clamp(min=1), 1.0)


# %% wrong="16.7" hint="the recall is tolerant too"
def tolerant_f1(found, wanted, within):
    near = F.max_pool2d(wanted.double(), 2 * within + 1, stride=1, padding=within) > 0
    count, asked = found.sum((1, 2, 3)), wanted.sum((1, 2, 3))
    p = (found & near).sum((1, 2, 3)) / count.clamp(min=1)
    r = (found & wanted).sum((1, 2, 3)) / asked.clamp(min=1)
    return torch.where(count + asked == 0, 1.0, 2 * p * r / (p + r).clamp(min=1e-12))


# %% wrong="16.7" hint="the precision is tolerant too"
def tolerant_f1(found, wanted, within):
    near = F.max_pool2d(found.double(), 2 * within + 1, stride=1, padding=within) > 0
    count, asked = found.sum((1, 2, 3)), wanted.sum((1, 2, 3))
    p = (found & wanted).sum((1, 2, 3)) / count.clamp(min=1)
    r = (wanted & near).sum((1, 2, 3)) / asked.clamp(min=1)
    return torch.where(count + asked == 0, 1.0, 2 * p * r / (p + r).clamp(min=1e-12))


# %% wrong="16.7" hint="not rows alone"
def tolerant_f1(found, wanted, within):
    def share(pixels, others):
        near = F.max_pool2d(others.double(), (2 * within + 1, 1), stride=1, padding=(within, 0)) > 0
        return (pixels & near).sum((1, 2, 3)) / pixels.sum((1, 2, 3)).clamp(min=1)

    p, r = share(found, wanted), share(wanted, found)
    f1 = 2 * p * r / (p + r).clamp(min=1e-12)
    return torch.where(~(found | wanted).flatten(1).any(1), 1.0, f1)


# %% wrong="16.7" hint="not columns alone"
def tolerant_f1(found, wanted, within):
    def share(pixels, others):
        near = F.max_pool2d(others.double(), (1, 2 * within + 1), stride=1, padding=(0, within)) > 0
        return (pixels & near).sum((1, 2, 3)) / pixels.sum((1, 2, 3)).clamp(min=1)

    p, r = share(found, wanted), share(wanted, found)
    f1 = 2 * p * r / (p + r).clamp(min=1e-12)
    return torch.where(~(found | wanted).flatten(1).any(1), 1.0, f1)


# %% wrong="16.7" hint="rows and columns are not added up"
def tolerant_f1(found, wanted, within):
    scores = []
    for one, other in zip(found[:, 0], wanted[:, 0], strict=True):
        a, b = one.nonzero().double(), other.nonzero().double()
        if not len(a) or not len(b):
            scores.append(float(len(a) == len(b)))
            continue
        close = torch.cdist(a, b, p=1) <= within  # a diamond
        p, r = float(close.any(1).double().mean()), float(close.any(0).double().mean())
        scores.append(2 / (1 / p + 1 / r) if p and r else 0.0)
    return torch.tensor(scores)


# %% wrong="16.7" hint="not a disc around the pixel"
def tolerant_f1(found, wanted, within):
    scores = []
    for one, other in zip(found[:, 0], wanted[:, 0], strict=True):
        a, b = one.nonzero().double(), other.nonzero().double()
        if not len(a) or not len(b):
            scores.append(float(len(a) == len(b)))
            continue
        close = torch.cdist(a, b) <= within + 1e-6  # a disc
        p, r = float(close.any(1).double().mean()), float(close.any(0).double().mean())
        scores.append(2 / (1 / p + 1 / r) if p and r else 0.0)
    return torch.tensor(scores)


# %% wrong="16.7" hint="within 2 pixels too it is a square"
def tolerant_f1(found, wanted, within):
    scores = []
    for one, other in zip(found[:, 0], wanted[:, 0], strict=True):
        a, b = one.nonzero().double(), other.nonzero().double()
        if not len(a) or not len(b):
            scores.append(float(len(a) == len(b)))
            continue
        close = torch.cdist(a, b) <= within + 0.5  # a disc through the pixels at its edge
        p, r = float(close.any(1).double().mean()), float(close.any(0).double().mean())
        scores.append(2 / (1 / p + 1 / r) if p and r else 0.0)
    return torch.tensor(scores)


# %% wrong="16.7" hint="the precision alone"
def tolerant_f1(found, wanted, within):
    near = F.max_pool2d(wanted.double(), 2 * within + 1, stride=1, padding=within) > 0
    count = found.sum((1, 2, 3))
    p = (found & near).sum((1, 2, 3)) / count.clamp(min=1)
    equal = (found & wanted).sum((1, 2, 3)) * 2 / (count + wanted.sum((1, 2, 3))).clamp(min=1)
    empty = (count == 0) & (wanted.sum((1, 2, 3)) == 0)
    return torch.where(empty, 1.0, p if within else equal)


# %% wrong="16.7" hint="the recall alone"
def tolerant_f1(found, wanted, within):
    near = F.max_pool2d(found.double(), 2 * within + 1, stride=1, padding=within) > 0
    count = wanted.sum((1, 2, 3))
    r = (wanted & near).sum((1, 2, 3)) / count.clamp(min=1)
    equal = (found & wanted).sum((1, 2, 3)) * 2 / (count + found.sum((1, 2, 3))).clamp(min=1)
    empty = (count == 0) & (found.sum((1, 2, 3)) == 0)
    return torch.where(empty, 1.0, r if within else equal)


# %% wrong="16.7" hint="not their harmonic mean"
def tolerant_f1(found, wanted, within):
    def share(pixels, others):
        near = F.max_pool2d(others.double(), 2 * within + 1, stride=1, padding=within) > 0
        return (pixels & near).sum((1, 2, 3)) / pixels.sum((1, 2, 3)).clamp(min=1)

    p, r = share(found, wanted), share(wanted, found)
    mean = (p + r) / 2 if within else 2 * p * r / (p + r).clamp(min=1e-12)
    return torch.where(~found.flatten(1).any(1) & ~wanted.flatten(1).any(1), 1.0, mean)


# %% wrong="16.7" hint="where nothing is right"
def tolerant_f1(found, wanted, within):
    def share(pixels, others):
        near = F.max_pool2d(others.double(), 2 * within + 1, stride=1, padding=within) > 0
        return (pixels & near).sum((1, 2, 3)) / pixels.sum((1, 2, 3)).clamp(min=1)

    p, r = share(found, wanted), share(wanted, found)
    return torch.where(p + r > 0, 2 * p * r / (p + r).clamp(min=1e-12), 1.0)


# %% wrong="16.7" hint="must be finite"
def tolerant_f1(found, wanted, within):
    def share(pixels, others):
        near = F.max_pool2d(others.double(), 2 * within + 1, stride=1, padding=within) > 0
        return (pixels & near).sum((1, 2, 3)) / pixels.sum((1, 2, 3))

    p, r = share(found, wanted), share(wanted, found)
    return 2 * p * r / (p + r)


# %% right="16.7" name="shifts"
def tolerant_f1(found, wanted, within):
    def thick(pixels):
        padded = F.pad(pixels, (within,) * 4)
        height, width = pixels.shape[2:]
        out = torch.zeros_like(pixels)
        for i in range(2 * within + 1):
            for j in range(2 * within + 1):
                out |= padded[:, :, i : i + height, j : j + width]
        return out

    count, asked = found.sum((1, 2, 3)).double(), wanted.sum((1, 2, 3)).double()
    right, met = (found & thick(wanted)).sum((1, 2, 3)), (wanted & thick(found)).sum((1, 2, 3))
    scores = []
    for a, b, n, m in zip(right.tolist(), met.tolist(), count.tolist(), asked.tolist(), strict=True):
        if not n or not m:
            scores.append(float(n == m))
        else:
            scores.append(2 * (a / n) * (b / m) / (a / n + b / m) if a else 0.0)
    return torch.tensor(scores, dtype=torch.float64)


# %% right="16.7" name="distances"
def tolerant_f1(found, wanted, within):
    scores = []
    for one, other in zip(found[:, 0], wanted[:, 0], strict=True):
        a, b = one.nonzero().double(), other.nonzero().double()
        if not len(a) or not len(b):
            scores.append(float(len(a) == len(b)))
            continue
        close = torch.cdist(a, b, p=float("inf")) <= within
        p, r = float(close.any(1).double().mean()), float(close.any(0).double().mean())
        scores.append(2 / (1 / p + 1 / r) if p and r else 0.0)
    return torch.tensor(scores)


# %% right="16.7" name="a convolution of ones"
def tolerant_f1(found, wanted, within):
    pen = torch.ones(1, 1, 2 * within + 1, 2 * within + 1, dtype=torch.float64)

    def near(pixels):
        return F.conv2d(pixels.double(), pen, padding=within) > 0.5

    count, asked = (one.double().sum((1, 2, 3)) for one in (found, wanted))
    p = (found & near(wanted)).sum((1, 2, 3)) / count.clamp(min=1)
    r = (wanted & near(found)).sum((1, 2, 3)) / asked.clamp(min=1)
    f1 = torch.where(p * r > 0, 2 * p * r / (p + r), 0.0)
    return torch.where(count + asked == 0, torch.ones_like(f1), f1)
