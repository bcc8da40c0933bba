"""What went wrong in training: the checks of a model, and the figures that they share."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch.distributions import Distribution

from vaelab import checks
from vaelab.distributions import DiagonalNormal, seeded
from vaelab.doctor import Finding
from vaelab.doctor._patient import MOST_TEST, Patient, admitted
from vaelab.estimator import VAE
from vaelab.importance import unreliable
from vaelab.information import kl_per_dimension
from vaelab.latent import device_of
from vaelab.likelihoods import Gaussian
from vaelab.metrics import mean_and_error
from vaelab.networks import MAX_LOG_SCALE, soft_bound
from vaelab.objectives import ELBO
from vaelab.priors import StandardNormal, Vamp
from vaelab.records import Dataset
from vaelab.separation import Separation
from vaelab.tensors import as_tensor, to_float, unit_of

__all__ = ["CHECKS", "examine"]

COLLAPSED = 0.1
"""Rate in nats below which a code tells next to nothing: it tells one in e^0.1 = 1.1 data apart."""

UNUSED_KL, UNUSED_VARIANCE = 0.01, 0.01
"""A dimension is unused below this divergence, in nats, or below this variance of its means (Burda
et al., 2015, section 5.2, https://arxiv.org/abs/1509.00519) if that is within its noise."""

FAR, FAR_SHARE = 1.0, 0.2
"""The aggregate posterior is far from the prior above 1 nat, where a typical code is e times as
dense as a draw of the prior, if that is also above a fifth of the rate."""

EMPTY, EMPTY_SHARE, DRAWS = math.log(100), 0.1, 2_000
"""A draw of the prior lies in a hole if codes are 100 times rarer there than the prior has it; more
than one such sample in ten is seen in any grid of samples. Of 2,000 draws, a tenth is known to
0.7 %. With more than two dimensions this is not looked at: mixtures of codes are too rough."""

SATURATED_CODE = 1.0
"""Nats below ln N from where on the mutual information, and so the divergence of all codes to the
prior, can no longer be estimated from N data."""

ERRORS, GAP = 3.0, 0.02
"""A gap of training and test ELBO counts above 3 standard errors, which chance passes once in 700
times, and above 2 % of the ELBO: less is usual, as all models fit what they are shown better."""

FOUGHT, FOUGHT_SHARE = 0.25, 0.1
"""A separation fights the KL divergence where it holds codes away from the prior. On 4,000 digits
of MNIST the aggregate posterior of `vae` was from it by 12 to 17 % of the rate with weights from
0.1 to 20, by 8 % with 0.02 and by 5 to 6 % without; that of `neighbours` by 2 % with any weight. On
all digits it was 25 % with 0.75, 5 % without, and 1.5 % for `neighbours`. A wide map and a rising
rate are no signs: both were seen without a separation too. One seed each."""

BALANCE, PLENTY = 3.0, 10.0
"""What the term adds to the loss over the rate. There, with 0.7 it went half its way, and its 15
neighbours told classes no better; with 2.5 four fifths, at those 8 %; with 12 all, and they did."""

RISING, FEWEST = 0.25, 4
"""The ELBO still rises if the second half of at least 4 epochs brings a quarter of all gains, and
some on data held out: where training ends flat, the first epochs bring nearly all of them."""

UNRELIABLE = 0.5
"""Where most data have weights with too heavy a tail, their mean is in doubt too; of few particles
many a tail looks heavy by chance."""

NEAR_BOUND, SATURATED = 0.95, 0.01
"""A log-scale is at its bound from 95 % of it on, where tanh leaves a tenth of the gradient; a
hundredth of all scales is more than a few odd data."""

TINY = 1e-3
"""A likelihood's scale of an element below a thousandth of that element's own deviation: a density
that grows without use, for no network fits new data so well."""


def collapse(patient: Patient) -> Finding:
    """A code that tells nothing of the data."""
    rate, error = mean_and_error(patient.on_test.rate)
    evidence = f"the code holds {rate:.3g} ± {error:.2g} nats of a datum (the mean rate on test)."
    if rate >= COLLAPSED and not _idle(patient).all():
        return Finding("posterior-collapse", "ok", evidence)
    return Finding("posterior-collapse", "problem", evidence, _less_divergence(patient))


def _less_divergence(patient: Patient) -> str:
    """The command that trains with less weight of the KL divergence."""
    objective = patient.vae.recipe_.objective
    if not isinstance(objective, ELBO):
        return patient.again("less-kl", "--set objective.warmup_epochs=2", recipe="vae")
    beta = 1.0 if objective.beta > 1 else objective.beta / 2
    change = f"--set objective.warmup_epochs=2 --set objective.beta={beta:g}"
    return patient.again("less-kl", change)


def _idle(patient: Patient) -> np.ndarray:
    """Which latent dimensions carry nothing, `(D,)`."""
    codes = patient.test_codes
    noise = (codes.scale.astype(np.float64) ** 2).mean(0)
    variance = codes.loc.astype(np.float64).var(0)
    idle = (variance < UNUSED_VARIANCE) & (variance < noise)
    if isinstance(patient.vae.model_.parts["prior"], StandardNormal):
        idle |= kl_per_dimension(codes) < UNUSED_KL
    return np.asarray(idle)


def unused(patient: Patient) -> Finding:
    """Latent dimensions that carry nothing."""
    idle = _idle(patient)
    variance = patient.test_codes.loc.var(0)
    count, size = int(idle.sum()), len(idle)
    evidence = (
        f"{count} of {size} latent dimensions are unused; the variance of posterior means over "
        f"data is from {variance.min():.2g} to {variance.max():.2g}."
    )
    if not count:
        return Finding("unused-dimensions", "ok", evidence)
    level = "warning" if 2 * count >= size else "note"
    advice = _less_divergence(patient)
    if count < size:
        advice = patient.again(f"dim{size - count}", latent_dim=size - count)
    return Finding("unused-dimensions", level, evidence, advice)


def holes(patient: Patient) -> Finding:
    """Places where the prior puts samples, but no data lie."""
    rate = float(patient.on_train.rate.mean())
    found = _apart(patient)
    if found is None:
        count = patient.information.data
        evidence = f"{count:,} data are too few to tell, at a rate of {rate:.3g} nats."
        return Finding("prior-holes", "ok", evidence)
    apart, evidence = found
    bad = apart > max(FAR, FAR_SHARE * rate)
    evidence += f", at a rate of {rate:.3g} nats"
    if patient.vae.model_.latent_dim <= 2:
        share = _empty(patient)
        bad = bad or share > EMPTY_SHARE
        evidence += f"; {share:.1%} of the prior's draws fall where codes are 100 times too rare"
    if not bad:
        return Finding("prior-holes", "ok", f"{evidence}.")
    objective = patient.vae.recipe_.objective
    beta = objective.beta if isinstance(objective, ELBO) else 1.0
    advice = patient.again("more-kl", f"--set objective.beta={2 * max(beta, 0.5):g}", recipe="vae")
    if not isinstance(patient.vae.model_.parts["prior"], Vamp):
        bending = patient.again("vamp", recipe="vamp")
        advice = f"{bending}; or more weight of the KL divergence: {advice}"
    return Finding("prior-holes", "warning", f"{evidence}.", advice)


def _apart(patient: Patient) -> tuple[float, str] | None:
    """How far all codes together are from the prior, in nats and in words; `None` if unknown."""
    told = patient.information
    of = f"of {told.data:,} training data"
    if told.mutual_information <= told.ceiling - SATURATED_CODE:
        apart = told.marginal_kl
        return apart, f"all codes {of} together are {apart:.2g} nats from the prior"
    if not isinstance(patient.vae.model_.parts["prior"], StandardNormal):
        return None
    apart = told.dimension_kl
    return apart, f"each dimension by itself, codes {of} are {apart:.2g} nats in sum from the prior"


@torch.no_grad()
def _empty(patient: Patient) -> float:
    """Share of the prior's draws where codes are far rarer than the prior has it."""
    with seeded(patient.seed):
        z = patient.prior.sample((DRAWS,))
    device = device_of(patient.vae.model_)
    loc, scale = (torch.from_numpy(part).to(device) for part in patient.codes)
    mixture: Distribution = DiagonalNormal(loc, scale)
    parts = [
        mixture.log_prob(some[:, None]).logsumexp(1) - math.log(len(loc))
        for some in torch.split(z, max(1, 2**20 // len(loc)))
    ]
    rare = torch.cat(parts) < patient.prior.log_prob(z) - EMPTY
    return float(rare.float().mean())


def over_fitting(patient: Patient) -> Finding:
    """A test ELBO below that of the training data."""
    train, train_error = mean_and_error(patient.on_train.elbo)
    test, test_error = mean_and_error(patient.on_test.elbo)
    gap, error = train - test, math.hypot(train_error, test_error)
    evidence = (
        f"the ELBO is {train:.5g} on training data and {test:.5g} on test data, {gap:.3g} ± "
        f"{error:.2g} nats apart."
    )
    if gap <= max(ERRORS * error, GAP * abs(train)):
        return Finding("over-fitting", "ok", evidence)
    decay = max(0.1, 3 * patient.vae.training_.weight_decay)
    change = (
        f"--epochs {max(1, patient.epochs // 2)} --patience 3 --set training.weight_decay={decay:g}"
    )
    advice = f"{patient.again('regularised', change)}; or use more data"
    return Finding("over-fitting", "warning", evidence, advice)


def under_fitting(patient: Patient) -> Finding:
    """An ELBO that still rose when training ended."""
    history = patient.vae.history_
    elbo = [record["train_elbo"] for record in history]
    held = [record["valid_elbo"] for record in history if "valid_elbo" in record] or elbo
    advice = patient.longer()
    if len(elbo) < FEWEST:
        evidence = f"{len(elbo)} epochs are too few to tell whether the ELBO still rises."
        return Finding("under-fitting", "note", evidence, advice)
    middle = (len(elbo) - 1) // 2
    gain, late = elbo[-1] - elbo[0], elbo[-1] - elbo[middle]
    evidence = (
        f"over {len(elbo)} epochs the training ELBO rose by {gain:.3g} nats to {elbo[-1]:.5g}, by "
        f"{late:.3g} of them in the second half."
    )
    error = mean_and_error(patient.on_train.elbo)[1]
    if late <= max(error, RISING * gain) or held[-1] <= held[middle]:
        return Finding("under-fitting", "ok", evidence)
    return Finding("under-fitting", "warning", evidence, advice)


def likelihood_estimate(patient: Patient) -> Finding:
    """Whether importance weights estimate log p(x)."""
    count = len(patient.weighed.effective)
    share = unreliable(patient.weighed, patient.particles)
    middle = float(np.median(patient.weighed.effective))
    evidence = (
        f"for {share:.1%} of {count:,} test data the weights of {patient.particles} particles have "
        f"too heavy a tail for log p(x) (effective particles: {middle:.3g} in the median)."
    )
    if share <= UNRELIABLE:
        return Finding("log-likelihood", "ok", evidence)
    advice = (
        f"take more particles (--particles {16 * patient.particles}), and compare models by their "
        "ELBO"
    )
    return Finding("log-likelihood", "warning", evidence, advice)


def saturated(patient: Patient) -> Finding:
    """Scales at their bounds, or a likelihood's that is tiny."""
    logs = np.log(patient.test_codes.scale)
    share = float((np.abs(logs) > NEAR_BOUND * MAX_LOG_SCALE).mean())
    evidence = (
        f"{share:.1%} of the posterior's log-scales are near their bound of ±{MAX_LOG_SCALE:g} "
        f"(they range from {logs.min():.3g} to {logs.max():.3g})"
    )
    bad = share > SATURATED
    likelihood = patient.vae.model_.parts["likelihood"]
    if isinstance(likelihood, Gaussian) and likelihood.raw_log_scale is not None:
        log_scale = soft_bound(likelihood.raw_log_scale.detach(), MAX_LOG_SCALE)
        least = _least_share(likelihood, patient.train)
        evidence += f"; the likelihood's least scale is {least:.2g} of its element's deviation"
        at_bound = float(log_scale.abs().max()) > NEAR_BOUND * MAX_LOG_SCALE
        bad = bad or at_bound or least < TINY
    if not bad:
        return Finding("saturated-scales", "ok", f"{evidence}.")
    rate = (patient.vae.training_.learning_rate or 0.0) / 4
    slower = patient.again("slower", f"--learning-rate {rate:.2g}" if rate else "")
    advice = f"standardise the data, remove constant columns; or {slower}"
    return Finding("saturated-scales", "warning", f"{evidence}.", advice)


def _least_share(likelihood: Gaussian, data: Dataset) -> float:
    """The least scale of any element, over its own deviation in some of the data; 1 if that is 0.

    A scale that all elements share, as in images, is measured by the mean of their variances.
    """
    some, scale = to_float(as_tensor(data.limited(MOST_TEST).x)), likelihood.stddev().detach().cpu()
    if scale.dim():
        return float((scale / unit_of(some, "per-dimension")).min())
    return float(scale / some.double().var(0, correction=0).mean().sqrt())


def same_data(patient: Patient) -> Finding:
    """Data unlike those that the model was trained on."""
    known = patient.vae.data_
    here = patient.train.fingerprint
    there = str(known.get("fingerprint", here))
    x = [as_tensor(data.x) for data in (patient.train, patient.test)]
    spans = [(float(one.min()), float(one.max())) for one in x]
    low, high = known.get("range", spans[0])
    kinds = {str(one.dtype).removeprefix("torch.") for one in x}
    kinds.add(str(known.get("dtype", min(kinds))))
    margin = high - low
    out = [s for s in spans if s[0] < low - margin or s[1] > high + margin]
    evidence = (
        f"training data have SHA-256 {here[:8]}…, the model's {there[:8]}…; values here range from "
        f"{min(s[0] for s in spans):g} to {max(s[1] for s in spans):g}, the model's from {low:g} "
        f"to {high:g} ({', '.join(sorted(kinds))})."
    )
    if len(kinds) > 1 or out:
        advice = "prepare the data as those of training were: the same type, scale and range"
        return Finding("data", "warning", evidence, advice)
    if here != there:
        advice = "give the data it was trained on; else over-fitting cannot be judged"
        return Finding("data", "note", evidence, advice)
    return Finding("data", "ok", evidence)


def recoveries(patient: Patient) -> Finding:
    """Training that met a loss that was not finite."""
    count = max((int(r.get("recoveries", 0)) for r in patient.vae.history_), default=0)
    evidence = f"training went back {count} times from a loss that was NaN or infinite."
    if not count:
        return Finding("recoveries", "ok", evidence)
    rate = (patient.vae.training_.learning_rate or 0.0) * 0.3**count
    advice = patient.again("slower", f"--learning-rate {rate:.2g}" if rate else "")
    return Finding("recoveries", "warning", evidence, advice)


def separation(patient: Patient) -> Finding:
    """A separation that the prior does not allow, or that hardly counts."""
    recipe, name = patient.vae.recipe_, "separation"
    if recipe.separation is None or not recipe.separation.weight:
        return Finding(name, "ok", "none was asked for.")
    weight, last = recipe.separation.weight, patient.vae.history_[-1]
    each = last["train_separation"] * math.prod(patient.train.shape)  # at a weight of 1
    rate = last["train_rate"]
    told = float(f"{weight * each:.3g}")
    evidence = f"at weight {weight:g} the term adds {told:,g} nats to the loss"
    if weight * each < rate:
        more = max(Separation().weight, PLENTY * rate / each)
        evidence += f", less than the rate of {rate:.3g} nats: it hardly counts."
        return Finding(name, "note", evidence, _separated(patient, more))
    apart, words = _apart(patient) or (0.0, "data are too few to tell how far codes are from it")
    evidence += f"; {words}, at a rate of {rate:.3g} nats."
    if apart <= max(FOUGHT, FOUGHT_SHARE * rate):
        return Finding(name, "ok", evidence)
    less = min(weight / 2, BALANCE * rate / each)
    advice = _bending(patient) + _separated(patient, less)
    return Finding(name, "warning", evidence, advice)


def _separated(patient: Patient, weight: float) -> str:
    """The command that trains with another weight of the separation."""
    return patient.again("separation", f"--separation {weight:.2g}")


def _bending(patient: Patient) -> str:
    """The command that trains with a prior that can follow the map, where there is one."""
    model = patient.vae.model_
    if isinstance(model.parts["prior"], Vamp) or model.classes:
        return ""
    recipe = "conv-neighbours" if patient.vae.recipe_.name == "conv" else "neighbours"
    return f"{patient.again(recipe, recipe=recipe)}; or a smaller weight: "


CHECKS: tuple[Callable[[Patient], Finding], ...] = (
    *(collapse, unused, holes, over_fitting, under_fitting),
    *(likelihood_estimate, saturated, same_data, recoveries, separation),
)
"""The checks of a model, in the order they are told."""


def examine(vae: VAE, train: Dataset, test: Dataset, *, particles: int, seed: int) -> list[Finding]:
    """See `vaelab.doctor.examine_model`."""
    patient = admitted(vae, train, test, checks.integer("particles", particles), checks.seed(seed))
    return [check(patient) for check in CHECKS]
