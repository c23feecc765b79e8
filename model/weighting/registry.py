"""The rules by the names that configurations use."""

from __future__ import annotations

from model.weighting.base import Weighting
from model.weighting.capped_lgh import CappedLGH
from model.weighting.equal_sum import EqualSum
from model.weighting.fixed import FixedLambda
from model.weighting.gradnorm import GradNorm
from model.weighting.lgh import LGH
from model.weighting.pcgrad import PCGrad
from model.weighting.ri_pcgrad import RIPCGrad
from model.weighting.single_task import SingleTask
from model.weighting.uncertainty import Uncertainty

WEIGHTINGS: dict[str, type[Weighting]] = {
    "single_task": SingleTask,
    "equal_sum": EqualSum,
    "fixed_lambda": FixedLambda,
    "uncertainty": Uncertainty,
    "gradnorm": GradNorm,
    "pcgrad": PCGrad,
    "ri_pcgrad": RIPCGrad,
    "lgh": LGH,
    "capped_lgh": CappedLGH,
}


def weighting_named(name: str, **parameters: float) -> Weighting:
    """The rule of that name with these parameters; what is not given is the rule's default.

    Raises:
        ValueError: there is no such rule, it has no such parameter, or the value is out of range.
    """
    if name not in WEIGHTINGS:
        raise ValueError(f"unknown weighting {name!r}: choose one of {', '.join(WEIGHTINGS)}")
    try:
        return WEIGHTINGS[name](**parameters)
    except TypeError as error:
        raise ValueError(f"the weighting {name!r} has other parameters than {sorted(parameters)}") from error
