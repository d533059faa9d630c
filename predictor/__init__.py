"""From measurements to predicted latency."""
