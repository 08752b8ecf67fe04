"""The shape of a loaded model, as `read_shape` gives that of a folder."""

import math
from typing import Any

from torch import nn

from craft.infra.models.shape import ModelShape, is_layer_matrix


def shape_of(model: Any) -> ModelShape:
    """The shape of a transformers model without an adapter. Weights in 4 bits count with their real sizes."""
    head = model.get_output_embeddings()
    config = model.config.get_text_config()
    weights = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head:
            weights[f"{name}.weight"] = (module.out_features, module.in_features)
    return ModelShape(
        matrices={name: (size[0], size[1]) for name, size in weights.items() if is_layer_matrix(name, len(size))},
        parameters=sum(math.prod(size) for size in weights.values()),
        layers=int(config.num_hidden_layers),
        hidden=int(config.hidden_size),
        vocabulary=int(config.vocab_size),
        context_length=int(getattr(config, "max_position_embeddings", 2048)),
        tied=head is None or head.weight is model.get_input_embeddings().weight,
        score_heads=config.num_attention_heads if config._attn_implementation == "eager" else 0,
        vectors={name: size[0] for name, size in weights.items() if len(size) == 1},
    )
