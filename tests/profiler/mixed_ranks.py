"""Settings of an adapter whose linears have different ranks and scales, for `peft.LoraConfig`."""

MIXED = {
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "k_proj", "down_proj"],
    "rank_pattern": {"down_proj": 2},
    "alpha_pattern": {"down_proj": 16, "k_proj": 2},
}
