"""From predicted latency and measured quality to adapters that fit."""
