"""Methods of the comparison at equal cost, each with the one number that its cost grows with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from srsoup_lightning.samplers import (
    BFS,
    DAS,
    DNO,
    DPS,
    DSG,
    DTS,
    MIRA,
    MIRADPO,
    MPGD,
    RBF,
    SES,
    SMC,
    SVDD,
    TRS,
    VASR,
    Auto,
    BestOfN,
    CoDe,
    Demon,
    DSearch,
    EpsilonGreedy,
    Fast,
    FixedSoup,
    FKSteering,
    Pooled,
    ReNO,
    Resampling,
    Sampler,
    SearchOverPaths,
    Selection,
    SRSoup,
    Surrogate,
    UniversalGuidance,
    WeightedSum,
    ZeroOrder,
)

STEPS = 20
PREVIEWS = ({"preview": "unguided"}, {"preview": "unguided", "pool": True})  # settings that the search tries
MILD = tuple({"inverse_temperature": strength} for strength in (1.0, 3.0, 30.0))  # for particles
SHARP = tuple({"inverse_temperature": strength} for strength in (3.0, 30.0, 100.0))


def common(**options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Options of every method."""
    return {"num_inference_steps": STEPS, "guidance_scale": 5.0, **options}


@dataclass(frozen=True)
class Contender:
    """A method whose cost grows with its size.

    Attributes:
        kind: Class of the method, or a function that makes it.
        size: Option that is the size.
        least: Smallest size.
        options: Settings of its authors, where they are not the defaults.
        search: Other settings that the small search tries.
        standardises: Whether the method brings rewards or gradients to one scale by itself, and is given no units.
    """

    kind: Callable[..., Sampler]
    size: str
    least: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)
    search: tuple[Mapping[str, Any], ...] = ()
    standardises: bool = False

    @property
    def takes_units(self) -> bool:
        """Whether the method takes the units of rewards."""
        return not self.standardises and "units" in {option.name for option in fields(type(self.make(self.least)))}

    def make(self, size: int, **options: Any) -> Sampler:  # noqa: ANN401
        """The method with this size."""
        return self.kind(**common(**{**self.options, **options, self.size: size}))

    def size_of(self, sampler: Sampler) -> str:
        """The size of a method in words."""
        owner = sampler if hasattr(sampler, self.size) else getattr(sampler, "selection", None)
        size = getattr(owner, self.size)
        return f"{self.size} {max(size) if isinstance(size, list) else size}"


def auto(candidates: int, shared: bool = True, previews: float = 3.2, sparse: bool = False, **options: Any) -> Auto:  # noqa: ANN401
    """Auto with a pool and previews in the proportions of its defaults: 96 and 16 for 5 candidates.

    With `sparse`, it searches every other step, from half of the pool.
    """
    asked = [candidates, 0] * (STEPS // 2) if sparse else candidates
    selection = Selection(pool=96 * candidates // (10 if sparse else 5), shared=shared)
    return Auto(candidates=asked, surrogate=Surrogate(int(previews * candidates)), selection=selection, **options)


def from_pool(kind: type[SRSoup], candidates: int, pool: bool = False, **options: Any) -> SRSoup:  # noqa: ANN401
    """A soup. With `pool`, it starts from the best of a pool in the proportions of Fast's defaults: 64 for 14."""
    selection = Selection(pool=64 * candidates // 14, jump=True) if pool else None
    return kind(candidates=candidates, selection=selection, **options)


def trs(batch: int, **options: Any) -> TRS:  # noqa: ANN401
    """TRS with a warm-up and a batch in the proportions of its defaults, for a fourth of its iterations."""
    return TRS(batch=batch, warm_up=max(4 * batch, 2), iterations=4, **options)


def dsearch(children: int, **options: Any) -> DSearch:  # noqa: ANN401
    """DSearch with the width that keeps the number of children the same in every step."""
    return DSearch(**{"children": children, "width": 1.0, **options})


def epsilon_greedy(candidates: int, **options: Any) -> EpsilonGreedy:  # noqa: ANN401
    """EpsilonGreedy with two rounds, since the published 20 are dearer than any other method."""
    return EpsilonGreedy(**{"candidates": candidates, "rounds": 2, **options})


def ses(popsize: int, **options: Any) -> SES:  # noqa: ANN401
    """SES with half of a generation as elites, and the published size of the low band, 8 x 8."""
    return SES(**{"popsize": popsize, "elites": max(popsize // 2, 2), "level": 1, **options})


def gradient_soup(pool: int, **options: Any) -> SRSoup:  # noqa: ANN401
    """SRSoup of true gradients, as strong as a search with 10 candidates, from the best start of a pool."""
    shared = {"candidates": 10, "sharing": FixedSoup(0, 8), "gradients": True}
    return SRSoup(**{**shared, **options, "selection": Selection(pool=pool)})


FAST = partial(from_pool, Fast, pool=True)
CONTENDERS: dict[str, Contender] = {
    "Auto": Contender(auto, "candidates", search=({"preview": "unguided"}, {"preview": "unguided", "shared": False})),
    "Auto of completed candidates": Contender(auto, "candidates", options={"completion": 4, "previews": 8}),
    "Auto with resampling": Contender(auto, "candidates", options={"resampling": Resampling()}, search=PREVIEWS[:1]),
    "Auto in every other step": Contender(
        auto, "candidates", options={"resampling": Resampling(), "sparse": True, "previews": 8}
    ),
    "Fast": Contender(FAST, "candidates"),
    "Fast without resampling": Contender(FAST, "candidates", options={"resampling": None}),
    "Fast with a pool of 64": Contender(Fast, "candidates"),
    "Fast with a pool of 64, without resampling": Contender(Fast, "candidates", options={"resampling": None}),
    "Pooled": Contender(SRSoup, "candidates", options={"sharing": Pooled()}),
    "SRSoup": Contender(
        partial(from_pool, SRSoup), "candidates", options={"sharing": FixedSoup(0, 8)}, search=PREVIEWS
    ),
    "WeightedSum": Contender(partial(from_pool, WeightedSum), "candidates", search=PREVIEWS),
    "BestOfN": Contender(BestOfN, "pool"),
    "FKSteering": Contender(FKSteering, "particles", search=MILD),
    "SMC": Contender(SMC, "particles", search=SHARP),
    "BFS": Contender(BFS, "particles", search=SHARP),
    "VASR": Contender(VASR, "particles", search=MILD),
    "SVDD": Contender(SVDD, "children", search=({"preview": "unguided"}, {"temperature": 0.1}, {"temperature": 0.3})),
    "DSearch": Contender(
        dsearch, "children", least=1, search=({"preview": "unguided"}, {"search_schedule": "all"}, {"beams": 2})
    ),
    "DTS": Contender(
        DTS,
        "leaves",
        least=4,
        search=({"exploration": 0.3}, {"exponent": 0.7}, {"inverse_temperature": 3.0}),
    ),
    "RBF": Contender(RBF, "budget", least=45, search=({"initial": 10}, {"completion": 1})),
    "EpsilonGreedy": Contender(
        epsilon_greedy, "candidates", least=1, search=({"preview": "unguided"}, {"epsilon": 0.0}, {"strength": 0.5})
    ),
    "Demon": Contender(
        Demon,
        "candidates",
        search=({"preview": "unguided"}, {"temperature": 0.3}, {"temperature": 3.0}),
        standardises=True,
    ),
    "SearchOverPaths": Contender(
        SearchOverPaths,
        "noises",
        search=({"preview": "unguided"}, {"paths": 4}, {"start": 0.2}, {"back": 0.1, "ahead": 0.2}),
    ),
    "ZeroOrder": Contender(ZeroOrder, "rounds", search=({"cosine": 0.8}, {"cosine": 0.5}, {"neighbours": 4})),
    "TRS": Contender(trs, "batch", least=1, search=({"length": 2.4}, {"regions": 4})),
    "SES": Contender(ses, "popsize", search=({"level": 2}, {"level": 3})),
    "SRSoup of gradients": Contender(
        gradient_soup, "pool", search=tuple({"candidates": strength} for strength in (30, 100, 300, 1_000, 3_000))
    ),
    "DPS": Contender(
        DPS,
        "recurrence",
        least=1,
        search=(
            {"rate": 0.1},
            {"rate": 0.5},
            {"rate": 1.0},
            {"rate": 2.0},
            {"rate": 4.0},
            {"scale": "guidance", "rate": 0.05},
            {"conflicts": "mgda"},
        ),
        standardises=True,
    ),
    "DSG": Contender(
        DSG,
        "recurrence",
        least=1,
        search=({"rate": 0.05}, {"rate": 0.2}, {"rate": 0.4}, {"rate": 0.8}),
        standardises=True,
    ),
    "MPGD": Contender(
        MPGD,
        "recurrence",
        least=1,
        search=({"rate": 0.1}, {"rate": 0.5}, {"rate": 1.0}, {"rate": 2.0}, {"rate": 4.0}),
        standardises=True,
    ),
    "UniversalGuidance": Contender(
        UniversalGuidance,
        "recurrence",
        least=1,
        search=(
            {"backward_steps": 2},
            {"rate": 0.0, "backward_steps": 4},
            {"rate": 0.0, "backward_steps": 8},
            {"rate": 0.3},
        ),
        standardises=True,
    ),
    "DAS": Contender(
        DAS,
        "particles",
        options={"inverse_temperature": 50.0},
        search=({"inverse_temperature": 10.0}, {"inverse_temperature": 200.0}, {"tempering": "adaptive"}),
    ),
    "ReNO": Contender(ReNO, "iterations", search=({"sphere": True}, {"rate": 1.0}, {"regularisation": 0.1})),
    "DNO": Contender(
        DNO, "iterations", options={"rate": 0.05}, search=({"rate": 0.02}, {"rate": 0.1}, {"sphere": True})
    ),
    "MIRA": Contender(MIRA, "iterations", options={"rate": 0.05}, search=({"beta": 0.3}, {"beta": 3.0}, {"rate": 0.1})),
    "MIRADPO": Contender(
        MIRADPO,
        "iterations",
        options={"candidates": 4, "rate": 0.05},
        search=({"cosine": 0.5}, {"beta": 100.0}, {"rate": 0.1}),
    ),
    "CoDe": Contender(CoDe, "children", search=({"preview": "unguided"}, {"block": 2}, {"block": 3})),
}
