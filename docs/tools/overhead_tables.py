"""Tables of the overhead of adapters, by runtime, placement, rank and processor."""

from measured_tables import Interval, Table, kept, middle_first, percent, table, value

RANKS = (1, 8, 16, 64)
PLACEMENTS = {"all": "all 210 linears", "q_proj,v_proj": "q and v"}
BASES = {
    "torch-cpu:threads=1": "PyTorch fp32",
    "ort-cpu:threads=1": "ONNX Runtime fp32",
    "ort-cpu:int4,threads=1": "ONNX Runtime 4-bit",
}
FEW = {
    "rank 1, all linears": ("all", 1),
    "rank 16, all linears": ("all", 16),
    "rank 16, q and v only": ("q_proj,v_proj", 16),
}


def decode_rows(processor: str = "") -> dict[str, list[tuple[tuple[str, int], Interval, float]]]:
    """Swappable adapters in decode: base -> placement and rank, overhead, and seconds of the base.

    Args:
        processor: Ends the names of the kept files.
    """
    found = {
        BASES[device["device"]]: [
            ((row["placement"], row["rank"]), middle_first(row["over_base"]), row["base_s"])
            for row in device["rows"]
            if row["mode"] == "swappable"
        ]
        for device in kept(f"overhead_table{processor}")
    }
    for base, name in (("llama.cpp Q4_0", "llama_overhead"), ("OpenVINO 4-bit", "openvino_overhead")):
        found[base] = [
            ((row["sites"], row["rank"]), (row["overhead"], row["lower"], row["upper"]), row["base_s"])
            for row in kept(f"{name}{processor}")["rows"]
            if row["phase"] == "decode" and row.get("quantisation", "Q4_0") == "Q4_0"
            if row.get("mode", "swappable") == "swappable"
        ]
    return found


def of_all_ranks() -> dict[str, dict[tuple[str, int], Interval]]:
    """The same overheads by placement and rank, of bases on which all ranks were measured."""
    found = {base: {cell: over for cell, over, _ in rows} for base, rows in decode_rows().items()}
    return {base: cells for base, cells in found.items() if len(cells) == len(RANKS) * len(PLACEMENTS)}


@table
def overhead_decode() -> Table:
    """Overhead of swappable adapters in decode, by runtime, placement and rank."""
    return [
        ["base, adapter", *(f"rank {rank}" for rank in RANKS)],
        *(
            [f"{base}, {words}", *(percent(cells[placement, rank]) for rank in RANKS)]
            for base, cells in of_all_ranks().items()
            for placement, words in PLACEMENTS.items()
        ),
    ]


@table
def overhead_short() -> Table:
    """Overhead of swappable adapters in decode, by runtime: a few cells of `overhead_decode`."""
    return [
        ["base", *FEW],
        *(
            [base, *(percent(cells[cell]) for cell in FEW.values())]
            for base, cells in of_all_ranks().items()
            if base != "ONNX Runtime fp32"  # its wide intervals need the words of docs/overhead.md
        ),
    ]


@table
def overhead_processors() -> Table:
    """Overhead of swappable adapters in decode on two processors, and the base in milliseconds."""
    found, there = [["base", "EPYC, ms", "Xeon, ms", "adapter", "EPYC", "Xeon"]], decode_rows("_intel")
    for base, rows in decode_rows().items():
        both = rows, there[base]
        ms = [f"{1e3 * each[0][2]:.1f}" for each in both]
        cells = [{cell: percent(over) for cell, over, _ in each} for each in both]
        found += [[base, *ms, words, *(each[cell] for each in cells)] for words, cell in FEW.items()]
    return found


@table
def overhead_added() -> Table:
    """Milliseconds that the same adapter adds to a decode step of different bases: rank 16 on all linears."""
    rows = [["base", "base, ms", "adapter adds, ms", "overhead"]]
    for device in kept("overhead_table"):
        for row in device["rows"]:
            if (row["mode"], row["placement"], row["rank"]) == ("swappable", "all", 16):
                over, base = row["over_base"], 1e3 * row["base_s"]
                added = value([base * each for each in middle_first(over)], 1)
                rows.append([BASES[device["device"]], f"{base:.1f}", added, percent(middle_first(over))])
    return rows


@table
def openvino_overhead() -> Table:
    """Overhead in OpenVINO with 4-bit weights."""
    rows = [["phase", "mode", "adapter", "base, ms", "overhead"]]
    for row in kept("openvino_overhead")["rows"]:
        adapter = f"{PLACEMENTS[row['sites']]}, rank {row['rank']}"
        own = percent([row[name] for name in ("overhead", "lower", "upper")])
        rows.append([row["phase"], row["mode"], adapter, f"{1e3 * row['base_s']:.1f}", own])
    return rows


@table
def overhead_devices() -> Table:
    """Overhead of the same swappable adapters on several devices, and the base in milliseconds."""
    columns = {
        ("all", 1): "all, r = 1",
        ("all", 16): "all, r = 16",
        ("all", 64): "all, r = 64",
        ("q_proj,v_proj", 16): "q+v, r = 16",
    }
    rows = [["device", "phase", "base, ms", *columns.values()]]
    for device in kept("devices")["devices"]:
        for phase in ("prefill", "decode"):
            found = [row for row in device["rows"] if row["phase"] == phase]
            cells = {
                (row["sites"], row["rank"]): percent((row["overhead"], row["lower"], row["upper"]))
                for row in found
                if row["mode"] == "swappable"
            }
            base = f"{1e3 * found[0]['base_s']:.1f}"
            rows.append([f"`{device['name']}`", phase, base, *(cells[key] for key in columns)])
    return rows


@table
def llama_overhead() -> Table:
    """Overhead in llama.cpp, by weights of the base, phase, placement and rank."""
    cells = {
        (row["quantisation"], row["phase"], row["sites"], row["rank"]): percent(
            (row["overhead"], row["lower"], row["upper"])
        )
        for row in kept("llama_overhead")["rows"]
    }
    return [
        ["base", "phase", "adapter", *(f"rank {rank}" for rank in RANKS)],
        *(
            [base, phase, words, *(cells[base, phase, sites, rank] for rank in RANKS)]
            for base in kept("llama_overhead")["facts"]
            for phase in ("decode", "prefill")
            for sites, words in PLACEMENTS.items()
        ),
    ]
