"""Recipe `placement`: which linears carry an adapter, and of which rank, under a latency budget."""

from functools import partial

from adaptare.profiler import named_space
from adaptare.search.recipes.recipe import Recipe

RECIPE = Recipe(
    name="placement",
    summary="ranks from 0 on every half layer; rank 0 removes the adapter and its latency",
    paper="nested ranks: Valipour et al. 2022, 'DyLoRA', section 3; rank 0 and the latency budget are adaptare's",
    needs="training examples; a predictor for the search",
    gives="an adapter of mixed ranks on some of the linears, swappable or merged",
    space=partial(named_space, "blocks"),
)
