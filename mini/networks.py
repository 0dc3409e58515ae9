"""The experts and the text encoder of the trained miniature: their sizes and how they begin."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

LAYERS = 6
DIM = 128
FFN = 512
TEXT_DIM = 64


def make_expert(seed: int) -> Any:
    """One expert. It begins by predicting zero; matrices have gain 1, gates are open enough to learn through."""
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        num_attention_heads=1,
        attention_head_dim=DIM,
        in_channels=36,
        out_channels=16,
        text_dim=TEXT_DIM,
        freq_dim=256,
        ffn_dim=FFN,
        num_layers=LAYERS,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    )
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv3d):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.zeros_(model.proj_out.weight)
    nn.init.normal_(model.condition_embedder.time_proj.weight, std=0.02)
    for block in model.blocks:
        block.scale_shift_table.data.mul_(0.2)
        block.scale_shift_table.data[:, [2, 5]] += 0.5
        block.attn2.to_out[0].weight.data.mul_(0.5)
    return model


def make_text_encoder(vocabulary: int, seed: int) -> Any:
    """UMT5 with two layers, trained together with the experts."""
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=TEXT_DIM,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        tie_word_embeddings=False,
    )
    model = UMT5EncoderModel(config)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            gain = 0.3 if name.endswith((".o", ".wo")) else 1.0
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight.shape[1]))
    nn.init.normal_(model.shared.weight, std=1.0)
    return model
