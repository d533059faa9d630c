"""A scikit-learn pipeline on the features of adapters: any estimator, cross-validated on measured overheads.

The features are what an adapter adds to a call: sites, bytes and FLOPs, in all and for each kind of linear. Compare a
pipeline of your own with the fit that adaptare chooses.

    python examples/sklearn_pipeline.py [DEVICE]
"""

import sys

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct, WhiteKernel
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from adaptare.devices import connect
from adaptare.predictor import FeatureSet, LatencyPredictor
from adaptare.profiler import Workload, design, named_space, open_model, precise_within, profile


def main(spelling: str) -> None:
    """Measures 24 adapters, and prints the error of both on held-out adapters."""
    device, shape = connect(spelling), open_model("tiny-random").shape
    base = Workload(shape, mode="merged")
    configurations = design(named_space("sites", shape), 24, seed=0)
    workloads = [Workload(shape, each) for each in configurations]
    measured = profile(workloads, reference=base, device=device, stop=precise_within(0.01, seconds=5), seed=0)

    features = FeatureSet.of(workloads[0], configurations)
    X = features.matrix(features.values(configurations))
    y = np.array([row.overhead.middle for row in measured])
    pipeline = make_pipeline(MaxAbsScaler(), GaussianProcessRegressor(DotProduct() + WhiteKernel(), normalize_y=True))
    held_out = cross_val_predict(pipeline, X, y, cv=KFold(8, shuffle=True, random_state=0))
    error = LatencyPredictor().fit(measured).error_card
    print(f"{X.shape[1]} features: {', '.join(features.names[:4])}, ...")
    print(f"Gaussian process: mean absolute error {100 * np.abs(held_out - y).mean():.2f} points of overhead")
    print(f"adaptare: {error.mae_overhead_points:.2f} points; overheads from {y.min():.1%} to {y.max():.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["torch-cpu:threads=1"])
