"""Programs of workloads: builders for each runtime, and checks that an adapter is applied."""
