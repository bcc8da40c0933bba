"""Floor 1: Kullback-Leibler divergences, for numbers, arrays and distributions.

The closed form between two normal distributions is written once, in `kl_normal`. The parts'
distribution `DiagonalNormal` is registered with `torch.distributions.kl` to use it, so what a model
is trained with and what `vaelab.kl_normal` returns are the same code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from vaelab import checks

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "KLEstimate",
    "kl_normal",
    "kl_normal_monte_carlo",
    "kl_normal_quadrature",
    "normal_formula",
]


def kl_normal(p_loc: Any, p_scale: Any, q_loc: Any, q_scale: Any) -> Any:
    r"""KL(N(p_loc, p_scale²) ‖ N(q_loc, q_scale²)), element by element, in nats.

    With r = p_scale / q_scale and d = (p_loc − q_loc) / q_scale,

        KL = ln(q_scale / p_scale) − 1/2 + (p_scale² + (p_loc − q_loc)²) / (2 q_scale²)
           = (r − 1)(r + 1) / 2 − ln r + d² / 2,

    the second form of which neither overflows nor cancels for scales from 1e-8 to 1e8.

    Reference: C. M. Bishop, Pattern Recognition and Machine Learning (2006), exercise 2.13 in one
    dimension, https://www.microsoft.com/en-us/research/publication/pattern-recognition-machine-learning/

    Arguments:
        p_loc, q_loc: Means: numbers, arrays or tensors of any shapes that broadcast.
        p_scale, q_scale: Standard deviations, above 0; likewise.

    Returns:
        A `float` for four numbers, a tensor if any argument is one (gradients flow), else an array;
        of the broadcast shape, at least 0.

    Raises:
        checks.ArgumentError: A scale is not above 0 or not finite, a mean is not finite, or the
            shapes do not broadcast.

    >>> kl_normal(0.0, 1.0, 0.0, 1.0)
    0.0
    >>> round(kl_normal(0.0, 1.0, 1.0, 2.0), 6)
    0.443147
    """
    arguments = {"p_loc": p_loc, "p_scale": p_scale, "q_loc": q_loc, "q_scale": q_scale}
    if any(_is_tensor(value) for value in arguments.values()):
        return _kl_of_tensors(arguments)
    import numpy as np

    arrays = {name: _as_float_array(name, value) for name, value in arguments.items()}
    for name, array in arrays.items():
        wrong = ~np.isfinite(array) | ((array <= 0) & name.endswith("scale"))
        if wrong.any():
            _refuse(name, float(array[wrong].flat[0]))
    try:
        result = normal_formula(*arrays.values(), log=np.log)
    except ValueError:
        _refuse_shapes({name: array.shape for name, array in arrays.items()})
    return result if np.ndim(result) else float(result)


def normal_formula(p_loc: Any, p_scale: Any, q_loc: Any, q_scale: Any, *, log: Any) -> Any:
    """The formula of `kl_normal`, unchecked: for values that a part has made itself."""
    ratio = p_scale / q_scale
    shift = (p_loc - q_loc) / q_scale
    return 0.5 * ((ratio - 1.0) * (ratio + 1.0) + shift * shift) - log(ratio)


def _kl_of_tensors(arguments: dict[str, Any]) -> torch.Tensor:
    import torch

    like = next(value for value in arguments.values() if _is_tensor(value))
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    tensors = {
        name: value
        if _is_tensor(value)
        else torch.as_tensor(value, dtype=dtype, device=like.device)
        for name, value in arguments.items()
    }
    for name, tensor in tensors.items():
        wrong = ~torch.isfinite(tensor)
        if name.endswith("scale"):
            wrong = wrong | (tensor <= 0)
        if wrong.any():
            _refuse(name, float(tensor[wrong].flatten()[0]))
    try:
        result: torch.Tensor = normal_formula(*tensors.values(), log=torch.log)
    except RuntimeError:
        _refuse_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    return result


class KLEstimate(NamedTuple):
    """A divergence in nats and the error one should allow it."""

    value: float
    error: float


def kl_normal_quadrature(p_loc: float, p_scale: float, q_loc: float, q_scale: float) -> KLEstimate:
    """The same divergence by adaptive quadrature of ∫ p ln(p/q), a check on the closed form.

    The integral is taken over u = (x − p_loc) / p_scale from −40 to 40, where the mass left out is
    below 1e-300, with scipy.integrate.quad:
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.integrate.quad.html

    Returns:
        The value in nats and the quadrature's own bound on its error.

    >>> round(kl_normal_quadrature(0.0, 1.0, 1.0, 2.0).value, 6)
    0.443147
    """
    from scipy.integrate import quad

    _check_scalars(p_loc, p_scale, q_loc, q_scale)

    def integrand(u: float) -> float:
        density = math.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)
        v = (p_loc - q_loc) / q_scale + u * (p_scale / q_scale)
        log_ratio = math.log(q_scale) - math.log(p_scale) + 0.5 * (v * v - u * u)
        return density * log_ratio

    value, error = quad(
        integrand, -40, 40, points=(-4, 0, 4), limit=400, epsabs=1e-13, epsrel=1e-12
    )
    return KLEstimate(float(value), float(error))


def kl_normal_monte_carlo(
    p_loc: float,
    p_scale: float,
    q_loc: float,
    q_scale: float,
    *,
    draws: int = 100_000,
    seed: int = 0,
) -> KLEstimate:
    """The same divergence as the mean of ln(p(x)/q(x)) over `draws` draws from p.

    Returns:
        The estimate in nats and its standard error.

    >>> estimate = kl_normal_monte_carlo(0.0, 1.0, 1.0, 2.0)
    >>> abs(estimate.value - kl_normal(0.0, 1.0, 1.0, 2.0)) < 5 * estimate.error
    True
    """
    import numpy as np

    _check_scalars(p_loc, p_scale, q_loc, q_scale)
    checks.integer("draws", draws, least=2)
    u = np.random.default_rng(checks.seed(seed)).standard_normal(draws)
    v = (p_loc - q_loc) / q_scale + u * (p_scale / q_scale)
    log_ratio = math.log(q_scale) - math.log(p_scale) + 0.5 * (v * v - u * u)
    return KLEstimate(float(log_ratio.mean()), float(log_ratio.std(ddof=1) / math.sqrt(draws)))


def _check_scalars(p_loc: float, p_scale: float, q_loc: float, q_scale: float) -> None:
    checks.number("p_loc", p_loc)
    checks.number("p_scale", p_scale, above=0)
    checks.number("q_loc", q_loc)
    checks.number("q_scale", q_scale, above=0)


def _is_tensor(value: object) -> bool:
    """Whether `value` is a tensor, without importing torch where nobody else has."""
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _as_float_array(name: str, value: Any) -> np.ndarray:
    import numpy as np

    try:
        array = np.asarray(value)
        return array if array.dtype.kind == "f" else array.astype(float)
    except (TypeError, ValueError):
        raise checks.ArgumentError(
            f"{name} = {value!r}, but it must be a number, an array or a tensor of numbers."
        ) from None


def _refuse(name: str, value: float) -> NoReturn:
    allowed = "finite and above 0" if name.endswith("scale") else "finite"
    raise checks.ArgumentError(f"{name} holds {value}, but every value must be {allowed}.")


def _refuse_shapes(shapes: dict[str, tuple[int, ...]]) -> NoReturn:
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise checks.ArgumentError(f"shapes do not broadcast: {found}; give equal shapes or numbers.")
