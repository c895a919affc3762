"""How large the comparison is, on a laptop and for a paper."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**

    * `linear_widths`, `standard_widths`: of the linear networks under muPC, and of those under the
      standard parameterization; `hidden_layers`, the depths of both.
    * `mlp_widths`, and `mlp_nodes` of the tanh perceptrons.
    * `cnn_widths`, and `cnn_blocks` in each of three stages.
    * `transformer_widths`, and `transformer_blocks`; `embedding_widths` of the transformers whose
      embeddings have the standard deviations `embeddings` in place of muPC's.
    * `images` that perceptrons relax, `cnn_images`, `windows` of `context` tokens.
    * `seeds`, which draw weights and choose the examples.
    """

    name: str
    linear_widths: tuple[int, ...]
    standard_widths: tuple[int, ...]
    hidden_layers: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    mlp_nodes: int
    cnn_widths: tuple[int, ...]
    cnn_blocks: int
    transformer_widths: tuple[int, ...]
    transformer_blocks: int
    images: int
    cnn_images: int
    windows: int
    context: int
    seeds: tuple[int, ...]
    embedding_widths: tuple[int, ...]
    embeddings: tuple[float, ...]


SCALES = {
    "laptop": Scale(
        name="laptop",
        linear_widths=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
        standard_widths=(8, 64, 512),
        hidden_layers=(1, 3, 7, 15, 31),
        mlp_widths=(8, 16, 32, 64, 128, 256, 512),
        mlp_nodes=32,
        cnn_widths=(2, 4, 8, 16, 32),
        cnn_blocks=3,
        transformer_widths=(8, 32, 128, 256, 512),
        transformer_blocks=12,
        images=64,
        cnn_images=8,
        windows=2,
        context=32,
        seeds=(0, 1, 2),
        embedding_widths=(32, 128, 256, 512),
        embeddings=(0.1, 0.3, 1.0, 3.0),
    ),
    "paper": Scale(
        name="paper",
        linear_widths=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
        standard_widths=(8, 64, 512),
        hidden_layers=(1, 3, 7, 15, 31),
        mlp_widths=(8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        mlp_nodes=32,
        cnn_widths=(2, 4, 8, 16, 32, 64, 128, 256),
        cnn_blocks=3,
        transformer_widths=(8, 16, 32, 64, 128, 256, 512, 1024),
        transformer_blocks=12,
        images=64,
        cnn_images=64,
        windows=16,
        context=128,
        seeds=(0, 1, 2),
        embedding_widths=(32, 128, 256, 512, 1024),
        embeddings=(0.1, 0.3, 1.0, 3.0),
    ),
}
