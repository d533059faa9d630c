"""Values that are wrong, and the commands that read each file: the material of `robustness_cases.py`."""

from collections.abc import Callable, Mapping

from robustness_runs import DEVICE, MODEL, SEARCH

# Shortest command line of each command that succeeds in the prepared folder; `None` stands for an argument.
PLAIN: Mapping[str, tuple[str, ...]] = {
    "overhead": ("overhead", MODEL, "adapter", "--device", DEVICE, "--openings", "1"),
    "operators": ("operators", MODEL, "adapter", "--device", DEVICE),
    "parts": ("parts", MODEL, "adapter", "--device", DEVICE),
    "profile": ("profile", MODEL, "--device", DEVICE, "--count", "4", "--openings", "1", "--store", "new.db"),
    "store": ("store", "adaptare.db"),
    "compare": ("compare", "adaptare.db", "adaptare.db"),
    "fit": ("fit", "--device", DEVICE, "-o", "fresh"),
    "predict": ("predict", "predictor", "adapter"),
    "train": ("train", MODEL, "-o", "new", "--data", "data.jsonl", "--steps", "2", "--held-out", "12"),
    "search": (*SEARCH, "-o", "found.json"),
    "shrink": (
        *("shrink", "adapter", "--base", MODEL, "--predictor", "predictor"),
        *("--budget", "overhead=20%", "-o", "cut", "--data", "data.jsonl"),
    ),
    "verify": ("verify", "front.json", "--openings", "1", "--repeats", "1"),
    "export": ("export", "front.json", "-o", "out"),
    "check": ("check", "adapter", "--runtime", "peft", "--file", "adapter", "--base", MODEL),
    "tune": ("tune", MODEL, "-o", "tuned", "--data", "data.jsonl", "--device", DEVICE, "--quick"),
    "report": ("report", "adaptare.db", "-o", "report.html"),
    "demo": ("demo", "--model", MODEL, "--device", DEVICE, "--quick", "--data", "data.jsonl"),
}
# Said of a name that is empty.
NO_NAME = "no name"
# Kind of a value -> values that are none.
WRONG: Mapping[str, tuple[str, ...]] = {
    "int": ("", "x", "1.5", "nan", "1e3", "-7"),
    "float": ("", "x", "nan", "-1"),
    "share": ("", "x", "nan%", "-1%", "101%", "0.5"),
    "choice": ("", "x", "DECODE "),
    "file": ("missing", "empty", "binary.bin", "data.jsonl", "run", "a b"),
    "device": ("", "toaster", "simulated:launch_s=nan", "simulated:speed=1", "torch-cpu:threads=-1", "ort-cpu:int5",
               "pigeon:coop/torch-cpu", "ssh://", "torch-cpu:threads=99999999999999999999"),
    "budget": ("", "decode", "decode=", "decode=20", "decode=nanms", "decode=-20ms", "overhead=1e3%", "joy=20ms",
               "decode@x=20ms", "decode=20ms=30ms", "prefill@0=5ms", "decode=" + "9" * 400 + "ms"),
    "numbers": ("", "x", "4,,8", "-4", "1.5", "nan", "9" * 30),
    "names": ("", "w_proj", "q_proj,,v_proj", "[", "*("),
    "store": ("", "missing/adaptare.db", "empty", "binary.bin", "data.jsonl", "run", "nothing://me@host/name"),
}  # fmt: skip
# Parameter of a command -> kind of its value, where its type does not tell; none: any value is good, or it is written.
KIND_OF: Mapping[str, str] = {
    **dict.fromkeys(("device", "devices"), "device"),
    **dict.fromkeys(("budget", "budgets"), "budget"),
    **dict.fromkeys(("rank", "ranks"), "numbers"),
    **dict.fromkeys(("predictor", "predictors", "source", "front", "adapter", "data", "validation", "test"), "file"),
    **dict.fromkeys(("start", "file", "adapter_file", "adapter_of", "model", "base", "earlier"), "file"),
    **dict.fromkeys(("place", "store", "other"), "store"),
    "sites": "names",
    **dict.fromkeys(("recipe", "space", "algorithm", "regressor", "runtime", "quantity", "choice"), "choice"),
}

MISSING = "<missing>"
NAN, INFINITE = float("nan"), float("inf")
DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "shortened": lambda content: content[:-7],
    "binary": lambda _: bytes(range(256)) * 8,
    "swapped": lambda _: b'{"prompt": "a", "completion": "b"}\n',
    "nested": lambda _: b"[" * 100_000,
    "listed": lambda _: b"[]",
    "null": lambda _: b"null",
    "zero": lambda content: bytes(len(content)),
}
# Values that only some readers of a file use.
ASKED: Mapping[tuple[str, object], tuple[tuple[str, ...], ...]] = {
    ("lora_alpha", 0): (("export", "adapter", "--base", MODEL, "--to", "merged", "-o", "out"), PLAIN["shrink"]),
    ("place.device", "toaster"): (PLAIN["verify"],),
    ("place.length", 10**9): (PLAIN["verify"],),
}
# One example is none that is wrong.
HARMLESS = {("data.jsonl", "swapped")}
OVERHEAD, PREDICT = PLAIN["overhead"], PLAIN["predict"]
EXPORT_ADAPTER = ("export", "adapter", "--base", MODEL, "--to", "merged", "-o", "out")
CONFIG = ("overhead", "config.json", "--device", DEVICE, "--rank", "4", "--openings", "1")
SPACE = ("profile", MODEL, "--device", DEVICE, "--space", "space.yaml", "--store", "new.db")
RESUME = ("train", MODEL, "-o", "run", "--steps", "4", "--data", "data.jsonl", "--held-out", "12", "--max-tokens", "16")
READERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "adapter/adapter_config.json": (OVERHEAD, PREDICT, EXPORT_ADAPTER, PLAIN["shrink"], PLAIN["check"]),
    "adapter/adapter_model.safetensors": (OVERHEAD, PREDICT, EXPORT_ADAPTER, PLAIN["shrink"], PLAIN["check"]),
    "predictor.json": (PREDICT, PLAIN["search"], PLAIN["shrink"]),
    "predictor.npz": (PREDICT, PLAIN["search"]),
    "front.json": (PLAIN["verify"], PLAIN["export"]),
    "adaptare.db": (PLAIN["store"], PLAIN["fit"], PLAIN["compare"], PLAIN["report"]),
    "data.jsonl": (PLAIN["train"],),
    "space.yaml": (SPACE,),
    "ranks.json": (("predict", "predictor", "ranks.json"), ("export", "run", "--choice", "ranks.json", "-o", "out")),
    "config.json": (CONFIG,),
    "run/super_adapter.json": (PLAIN["search"], PLAIN["export"]),
    "run/super_adapter.safetensors": (PLAIN["search"], PLAIN["export"]),
    "run/task.json": (PLAIN["search"], PLAIN["export"]),
    "run/training.json": (RESUME,),
}
WEIRD = (MISSING, "junk", [], {}, -1)
NUMBERS = (MISSING, "junk", NAN, INFINITE, -1.0, 0.0)
VALUES: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "adapter/adapter_config.json": {
        "peft_type": (MISSING, "junk", [], 7, "LOHA"),
        "r": ("junk", [], 0, -1, 1.5, 10**12, NAN, 7),
        "lora_alpha": ("junk", [], NAN, INFINITE, 0),
        "target_modules": ("(", "[", 7, [7], ["w_proj"], {}, MISSING, "junk"),
        "rank_pattern": ("junk", [1], {"(": 4}, {"q_proj": -1}, {"q_proj": "x"}, {"model.layers.0.mlp.up_proj": 3}),
        "alpha_pattern": ("junk", [1], {"q_proj": NAN}, {"q_proj": "x"}, {"(": 4}),
        "modules_to_save": (["lm_head"],),
        "bias": ("all",),
        "use_dora": (True,),
    },
    "predictor.json": {
        **dict.fromkeys(("schema", "arrays_sha256", "shapes", "template", "base", "base_values", "features"), WEIRD),
        **dict.fromkeys(("regressor", "device", "error_card", "quantity", "unit"), WEIRD),
        **dict.fromkeys(("base_values.64", "level", "scale", "spread.scale"), NUMBERS[1:5]),
        "template.length": (-1, "junk", 10**12),
        "template.batch": (-1, 0, "junk"),
    },
    "front.json": {
        **dict.fromkeys(("schema", "budget", "place", "winners"), WEIRD),
        **dict.fromkeys(("limit", "base", "level"), NUMBERS),
        "winners.0.predicted": (*WEIRD, {"lower": NAN, "middle": NAN, "upper": NAN}),
        "winners.0.configuration": (MISSING, "junk", [], {"ranks": {"model.layers.9.self_attn.q_proj": 4}}),
        "winners.0.mode": (MISSING, "junk", 7),
        "place.model": (MISSING, 7),
        "place.device": (MISSING, "toaster", 7),
        "place.length": (MISSING, -1, "junk", 10**9),
        "place.phase": (MISSING, "sleep", 7),
    },
    "config.json": {
        "model_type": (MISSING, "junk", 7, "mamba"),
        "hidden_size": ("junk", -1, 0, NAN, 10**15, 65),
        "num_hidden_layers": ("junk", -1, 0, 10**12),
        "num_attention_heads": ("junk", -1, 0, 7),
        "num_key_value_heads": ("junk", -1, 0, 3),
        "intermediate_size": ("junk", -1, 0),
        "vocab_size": ("junk", -1, 0),
    },
    "run/super_adapter.json": {
        **dict.fromkeys(("schema", "base_shape", "space", "scaling"), WEIRD),
        "scaling.alpha": ("junk", NAN, INFINITE),
        "space.axes": ("junk", [], 7),
    },
    "run/task.json": {
        **dict.fromkeys(("schema", "model", "data"), (MISSING, "junk", [], 7)),
        "recipe": ("junk", [], 7),
        "quantisation": ("junk", 7),
        "data.file": ("missing.jsonl", 7),
        "data.held_out": (-1, "junk"),
        "data.max_tokens": (-1, 0, "junk"),
    },
    "run/training.json": {"settings": (MISSING, "junk", []), "losses": (MISSING, "junk")},
    "ranks.json": {
        "*.q_proj": (-1, 1.5, "x", None, [], 10**12, NAN),
        "*.w_proj": (4,),
    },
}
