"""Count of the compute of a search."""

import pytest
import torch
from search_compute import counting, summary
from transformers import LlamaConfig, LlamaForCausalLM


def test_tokens_are_counted_with_and_without_gradients() -> None:
    config = LlamaConfig(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32)
    model, ids = LlamaForCausalLM(config), torch.zeros(3, 5, dtype=torch.long)
    with counting() as counts:
        model(input_ids=ids)
        with torch.no_grad():
            model(input_ids=ids[:1])
            model(inputs_embeds=model.get_input_embeddings()(ids[:, :2]))
    assert counts == {"gradients": 15, "forward": 5 + 6}
    model(input_ids=ids)
    assert counts["gradients"] == 15


def test_work_is_in_trainings_of_one_adapter() -> None:
    trained, searched = {"gradients": 100, "forward": 30}, {"gradients": 20, "forward": 130}
    found = summary(trained, searched, evaluated=16)
    assert found["training"] == pytest.approx(1.15)
    assert found["search"] == pytest.approx(0.85)
    assert found["whole"] == pytest.approx(2.0)


def test_another_model_is_refused() -> None:
    with pytest.raises(SystemExit, match="no token went through a Llama"):
        summary({"gradients": 0, "forward": 0}, {"gradients": 0, "forward": 0}, evaluated=16)
