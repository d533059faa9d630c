"""Benchmark sessions: groups, openings, rounds, stopping rules, and the quantities that are measured."""

from adaptare.profiler.measuring.attribution import Attribution, OperatorCost, ProfiledCalls, attributions
from adaptare.profiler.measuring.parts import Parts, measure_parts
from adaptare.profiler.measuring.probe import Probe, probes_of, unit_of, units
from adaptare.profiler.measuring.probes import Energy, Latency, Memory, Operators, Swap, counts_energy, fed_bytes
from adaptare.profiler.measuring.session import Seen, Session
from adaptare.profiler.measuring.stopping import PreciseWithin, Progress
from adaptare.profiler.measuring.stubs import Stubs, stub_session, stubs_for

__all__ = ["PreciseWithin", "Progress", "Seen", "Session", "Stubs", "stub_session", "stubs_for"]
__all__ += ["Energy", "Latency", "Memory", "Operators", "Probe", "Swap", "counts_energy", "fed_bytes"]
__all__ += ["probes_of", "unit_of", "units"]
__all__ += ["Attribution", "OperatorCost", "Parts", "ProfiledCalls", "attributions", "measure_parts"]
