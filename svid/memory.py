"""Memory plans: where a model's weights are while a segment is rendered. None of them changes the bits of a result,
since everything computes on the device, whatever the plan."""

from __future__ import annotations

from dataclasses import dataclass

AUTO = "auto"
ANY = "any model"
"""In place of a model's name: every model that no plan was found for."""


@dataclass(frozen=True)
class Plan:
    """A way of placing a model. `at_once`: all of it is on the device, else only the part in use and the rest is on the
    CPU. `blocks`: of a transformer only the block in use."""

    name: str
    says: str
    at_once: bool = False
    blocks: bool = False


PLANS = (
    Plan("resident", "everything on the device", at_once=True),
    Plan("one-expert", "only the expert, the VAE or the encoder in use on the device, the others on the CPU"),
    Plan("streamed", "as one-expert, and of a transformer only the block in use", blocks=True),
)
"""From the largest to the smallest, which are also the fastest and the slowest."""


def plan_named(name: str) -> Plan:
    """The plan of a name. Raises KeyError."""
    return {plan.name: plan for plan in PLANS}[name]


def first_plan(written: str) -> str:
    """The name of the plan that `[render] memory` begins with."""
    return PLANS[0].name if written == AUTO else written


def smaller(name: str) -> str | None:
    """The name of the next smaller plan; None after the smallest."""
    names = [plan.name for plan in PLANS]
    return next(iter(names[names.index(name) + 1 :]), None)


SAYINGS = ("can't allocate memory", "not enough memory")
"""What torch's allocators for the CPU say, with a RuntimeError."""


def ran_out(error: BaseException | None) -> bool:
    """Whether memory that ran out, the device's or the machine's, is behind an exception."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # By its name, so that torch need not be imported to tell torch.OutOfMemoryError.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and any(saying in str(error) for saying in SAYINGS):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False
