"""What can be set in a process beside its modules, and how to put it back: torch, numpy, warnings, signals, IPython."""

import random
import sys
import warnings
from collections.abc import Callable
from typing import Any


def settings() -> list[tuple[Callable[[Any], Any], Any]]:
    """What else can be set, as pairs of how to put it back and its value now."""
    import numpy
    import torch

    def put_filters(filters: list[Any]) -> None:
        warnings.filters[:] = filters  # type: ignore[index]
        getattr(warnings, "_filters_mutated", lambda: None)()

    def put_modes(count: int) -> None:
        while torch._C._len_torch_function_stack() > count:
            torch._C._pop_torch_function_stack()

    def put_dispatch(count: int) -> None:
        while torch._C._len_torch_dispatch_stack() > count:
            torch._C._pop_torch_dispatch_stack(None)

    def put_list(target: list[Any]) -> Callable[[list[Any]], None]:
        return lambda saved: target.__setitem__(slice(None), saved)

    def put_streams(streams: tuple[Any, Any, Any]) -> None:
        sys.stdin, sys.stdout, sys.stderr = streams

    path, finders = sys.path, sys.meta_path

    def put_paths(saved: tuple[list[str], list[Any]]) -> None:
        path[:], finders[:] = saved
        sys.path, sys.meta_path = path, finders

    return [
        (put_paths, (list(path), list(finders))),
        (put_list(sys.path_hooks), list(sys.path_hooks)),
        (torch.set_default_device, None),
        (put_modes, torch._C._len_torch_function_stack()),
        (put_dispatch, torch._C._len_torch_dispatch_stack()),
        (torch.set_default_dtype, torch.get_default_dtype()),
        (torch.set_grad_enabled, True),
        (torch._C._set_grad_enabled, True),
        (torch.set_num_threads, torch.get_num_threads()),
        (torch.set_rng_state, torch.get_rng_state()),
        # Not torch.use_deterministic_algorithms, which imports the compiler, for a second.
        (torch._C._set_deterministic_algorithms, torch._C._get_deterministic_algorithms()),
        (torch.autograd.set_detect_anomaly, False),
        (numpy.random.set_state, numpy.random.get_state()),  # noqa: NPY002
        (lambda saved: numpy.seterr(**saved), numpy.geterr()),
        (random.setstate, random.getstate()),
        (put_filters, list(warnings.filters)),
        (put_streams, (sys.stdin, sys.stdout, sys.stderr)),
        (sys.setrecursionlimit, sys.getrecursionlimit()),
        *_signals(),
    ]


def _signals() -> list[tuple[Callable[[Any], Any], Any]]:
    import signal

    if sys.platform == "win32":
        return []

    def put_handlers(saved: dict[int, Any]) -> None:
        for number, handler in saved.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    names = (signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGVTALRM, signal.SIGPROF, signal.SIGTERM)
    return [
        (lambda _: signal.setitimer(signal.ITIMER_REAL, 0), None),
        (put_handlers, {int(name): signal.getsignal(name) for name in names}),
    ]


def shell_state(shell: Any) -> list[tuple[dict[str, Any], dict[str, Any], list[tuple[list[Any], list[Any]]]]]:
    """Namespaces of the shell and its parts: each as it lives, a copy, and its lists with copies of what they hold."""
    if shell is None:
        return []
    for name in ("ast_transformers", "input_transformers_post"):
        getattr(shell, name)  # made when first asked for
    manager = shell.input_transformer_manager
    namespaces = [vars(manager), shell._trait_values, shell.events.callbacks]
    return [
        (live, dict(live), [(value, list(value)) for value in live.values() if isinstance(value, list)])
        for live in namespaces
    ] + [(vars(shell), {key: value for key, value in vars(shell).items() if callable(value)}, [])]


def put_back_shell(shell: Any, state: list[tuple[dict[str, Any], dict[str, Any], list[Any]]]) -> None:
    for live, saved, lists in state:
        live.update(saved)
        for value, content in lists:
            value[:] = content
    attributes, saved, _ = state[-1]
    for key in attributes.keys() - saved.keys():
        if callable(getattr(type(shell), key, None)):  # it hides a method
            del attributes[key]
    shell.set_custom_exc((), None)
