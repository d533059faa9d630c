"""What unmerged adapters cost in PyTorch: all linears and q+v only, several ranks, merged as the null test.

python benchmarks/torch_overhead.py [--json] [--model smollm2-135m] [--phase decode] [--seconds 240]
"""

import argparse
import json
import sys

from adaptare.devices import connect
from adaptare.profiler import AdapterConfig, Workload, open_model, precise_within, profile, verdict

QUERY_AND_VALUE = ("q_proj", "v_proj")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="torch-cpu:threads=1")
    parser.add_argument("--phase", choices=("prefill", "decode"), default="decode")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 8, 16, 64])
    parser.add_argument("--openings", type=int, default=None, help="at most")
    parser.add_argument("--seconds", type=float, default=240.0, help="at most")
    options = parser.parse_args()

    device = connect(options.device)
    shape = open_model(options.model).shape
    template = Workload(shape, phase=options.phase)
    cases = {
        f"{name} r{rank}": template.with_adapter(AdapterConfig.uniform(shape, rank, kinds=kinds))
        for name, kinds in (("all", ()), ("q+v", QUERY_AND_VALUE))
        for rank in options.ranks
    }
    cases["all r16 merged"] = template.with_adapter(AdapterConfig.uniform(shape, 16)).merged
    measured = profile(
        list(cases.values()),
        reference=template.base,
        device=device,
        stop=precise_within(0.003, options.seconds, options.openings),
        seed=0,
    )
    info = device.info()
    rows = [
        {
            "case": name,
            "phase": options.phase,
            "overhead": each.overhead.middle,
            "lower": each.overhead.lower,
            "upper": each.overhead.upper,
            "verdict": verdict(each.overhead),
            "rounds": len(each.visits),
        }
        for name, each in zip(cases, measured, strict=True)
    ]
    if options.json:
        print(json.dumps({"device": info.device, "hardware": info.hardware, "runtime": info.runtime, "rows": rows}))
        return
    print(f"{options.model} {options.phase} on {info.device}, {info.hardware}, {info.runtime}", file=sys.stderr)
    for row in rows:
        interval = f"[{row['lower']:+.1%}, {row['upper']:+.1%}]"
        print(f"{row['case']:15} {row['overhead']:+6.1%}  {interval:18} {row['verdict']}")


if __name__ == "__main__":
    main()
