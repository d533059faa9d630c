"""Training of super-adapters: data, sampling, records and quality."""
