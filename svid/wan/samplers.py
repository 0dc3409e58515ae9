"""The samplers by name. Imports neither torch nor diffusers, so that a manifest can be checked at once.

Each was run against distributions whose flow is known exactly (tests/unit/test_wan_schedule.py). Left out because
diffusers 0.42 gets flow matching wrong in them: `deis` and `sa` repeat the last sigma where 0 belongs, so they leave
its noise in the picture (half a standard deviation at 50 steps and shift 5).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from svid.errors import Problem, Refused

FLOW: Mapping[str, Any] = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@dataclass(frozen=True)
class Sampler:
    """A diffusers scheduler and how it is set up.

    `shift` names the constructor's argument for the shift; `sigmas`: it takes a list of sigmas; `grid`: it is given
    SVI's grid, else it makes its own; `stochastic`: it draws noise while it steps; `state`: the scheduler's attributes
    that a step changes.
    """

    scheduler: str
    title: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    shift: str = "flow_shift"
    sigmas: bool = False
    grid: bool = False
    stochastic: bool = False
    state: tuple[str, ...] = ("_step_index",)


SAMPLERS: Mapping[str, Sampler] = {
    "euler": Sampler(
        "FlowMatchEulerDiscreteScheduler", "Euler on SVI's own grid", shift="shift", sigmas=True, grid=True
    ),
    "unipc": Sampler(
        "UniPCMultistepScheduler",
        "UniPC, Wan's own default",
        FLOW,
        sigmas=True,
        state=("_step_index", "model_outputs", "timestep_list", "lower_order_nums", "this_order", "last_sample"),
    ),
    "dpm++": Sampler(
        "DPMSolverMultistepScheduler",
        "DPM-Solver++ 2M",
        {**FLOW, "algorithm_type": "dpmsolver++"},
        state=("_step_index", "model_outputs", "lower_order_nums"),
    ),
    "dpm++_sde": Sampler(
        "DPMSolverMultistepScheduler",
        "DPM-Solver++ 2M SDE, with fresh noise in every step",
        {**FLOW, "algorithm_type": "sde-dpmsolver++"},
        stochastic=True,
        state=("_step_index", "model_outputs", "lower_order_nums"),
    ),
    "dpm++_2s": Sampler(
        "DPMSolverSinglestepScheduler",
        "DPM-Solver++ 2S",
        {**FLOW, "algorithm_type": "dpmsolver++", "lower_order_final": True},
        state=("_step_index", "model_outputs", "sample"),
    ),
    "heun": Sampler(
        "FlowMatchHeunDiscreteScheduler",
        "Heun; n steps run the model 2n - 1 times",
        shift="shift",
        state=("_step_index", "prev_derivative", "dt", "sample"),
    ),
    "lcm": Sampler(
        "FlowMatchLCMScheduler",
        "LCM, for distilled models, with fresh noise in every step",
        shift="shift",
        sigmas=True,
        grid=True,
        stochastic=True,
        state=("_step_index", "_init_size"),
    ),
}


def sampler_named(name: str) -> Sampler:
    """The sampler called `name`. Raises Refused, with a suggestion, where there is none."""
    if name in SAMPLERS:
        return SAMPLERS[name]
    close = difflib.get_close_matches(name.lower(), SAMPLERS, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else ""
    message = f"expected one of {', '.join(SAMPLERS)}, found {name!r}"
    raise Refused(Problem("the manifest", "sample.sampler", message, hint))


def final_sigmas(name: str, sigmas: Sequence[float]) -> list[float]:
    """Check a list of final sigmas for the sampler `name`; a 0 at the end is understood and left out.

    Raises:
        Refused: the sampler takes none, or they are not falling, or not in (0, 1].
    """
    if not sampler_named(name).sigmas:
        able = ", ".join(other for other, sampler in SAMPLERS.items() if sampler.sigmas)
        message = f"expected no sigmas, because {name!r} makes its own, found {len(sigmas)}"
        raise Refused(Problem("the manifest", "sample.sigmas", message, f"samplers that take sigmas: {able}"))
    steps = [float(sigma) for sigma in sigmas]
    if steps and steps[-1] == 0:
        steps.pop()
    falling = all(first > second for first, second in pairwise(steps))
    if not steps or not falling or steps[0] > 1 or not steps[-1] > 0:
        message = f"expected falling numbers from at most 1 to above 0, found {list(sigmas)}"
        raise Refused(Problem("the manifest", "sample.sigmas", message))
    return steps
