"""A folder of onnxruntime-genai that takes adapters on every linear."""

import shutil
from pathlib import Path

from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.programs import GENAI, OnnxBases, write_model
from adaptare.profiler.workloads import Halves, SubAdapter


def genai_folder(shape: ModelShape, folder: Path) -> Path:
    base = OnnxBases(folder / "cache").base(Workload(shape))
    halves = {site.path: Halves.zero(site.in_features, site.out_features) for site in shape.sites}
    (folder / "model").mkdir(parents=True)
    write_model(SubAdapter(Configuration(), halves, base), folder / "model", application="optional")
    shutil.copyfile(base.folder / GENAI, folder / "model" / GENAI)
    return folder / "model"
