"""Checkpoints as the authors of TADiSR released them, with random weights; and their decoding, as described."""

import dataclasses

import torch
import torch.nn.functional as F

from tadisr.loading.official_layouts import DECODER_GROUPS, KOLORS, RELEASES

GROUPS = {"unet": "mi_decoder", "transformer": "js_decoder"}  # as released


def small(release):
    """The same architecture with few channels."""
    widths = [16, 16, 32, 32] if release is KOLORS else [8, 16, 32, 32]
    vae = {**release.vae_config, "block_out_channels": widths, "norm_num_groups": 4}
    mask = [16, *widths[1:]] if release is KOLORS else widths
    backbone = {**release.backbone_config, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2,
                "text_embed_dim": 16, "time_embed_dim": 8, "condition_dim": 4}  # fmt: skip
    if release is KOLORS:
        backbone = {**release.backbone_config, "block_out_channels": [8, 8, 16], "norm_num_groups": 4,
                    "transformer_layers_per_block": 1, "attention_head_dim": 2, "cross_attention_dim": 16,
                    "encoder_hid_dim": 16, "addition_time_embed_dim": 4,
                    "projection_class_embeddings_input_dim": 40}  # fmt: skip
    return dataclasses.replace(release, vae_config=vae, mask_block_out_channels=mask, backbone_config=backbone)


SMALL = [small(release) for release in RELEASES]


def random_checkpoint(release, seed=0):
    """Every key of the layout, with values under which nothing vanishes and nothing explodes."""
    generator = torch.Generator().manual_seed(seed)

    def values(key, shape):
        x = torch.randn(shape, generator=generator)
        if len(shape) == 1:  # the weight of a normalisation, and any bias
            return x * 0.1 + (1.0 if key.endswith("weight") else 0.0)
        if len(shape) == 4 and key[-4:-1] in (".a_", ".b_"):
            return x * 0.3
        return x * (0.05 if "lora_B" in key else 1 / x[0].numel() ** 0.5)

    checkpoint = {}
    for group, slots in release.layout(GROUPS[release.family.component]).items():
        checkpoint[group], twins = {}, {}
        for key, slot in slots.items():
            tensor = twins.get(slot.ours)
            checkpoint[group][key] = values(key, slot.shape) if tensor is None else tensor
            if slot.ours:
                twins[slot.ours] = checkpoint[group][key]
    checkpoint[f"rank_{release.family.component}"] = 4
    checkpoint[f"{release.family.component}_lora_target_modules"] = list(release.backbone_targets)
    return checkpoint


def saved(checkpoint, path, **options):
    torch.save(checkpoint, path, **options)
    return path


class Described:
    """The released decoding, step by step on plain tensors, from the VAE's weights and the checkpoint's."""

    def __init__(self, vae, checkpoint, groups, scaling=4.0, skips=True):
        self.base, self.config = vae.state_dict(), vae.config
        self.lora = checkpoint["state_dict_vae"]
        self.decoder = next(checkpoint[group] for group in DECODER_GROUPS if group in checkpoint)
        self.groups, self.scaling, self.skips = groups, scaling, skips

    def vae(self, name):
        weight = self.base[f"{name}.weight"]
        if f"{name}.lora_A.vae_skip.weight" in self.lora:
            weight = weight + self.update(name).view_as(weight)
        return weight, self.base.get(f"{name}.bias")

    def update(self, name):
        a, b = (self.lora[f"{name}.lora_{side}.vae_skip.weight"].flatten(1) for side in "AB")
        return self.scaling * b @ a

    def own(self, name):
        return self.decoder[f"{name}.weight"], self.decoder.get(f"{name}.bias")

    def norm(self, weights, name, x, eps=1e-6):
        return F.group_norm(x, self.groups, *weights(name), eps)

    def resnet(self, weights, name, x):
        y = F.conv2d(F.silu(self.norm(weights, f"{name}.norm1", x)), *weights(f"{name}.conv1"), padding=1)
        y = F.conv2d(F.silu(self.norm(weights, f"{name}.norm2", y)), *weights(f"{name}.conv2"), padding=1)
        if y.shape[1] != x.shape[1]:
            x = F.conv2d(x, *weights(f"{name}.conv_shortcut"))
        return x + y

    def mid(self, name, x):
        x = self.resnet(self.vae, f"{name}.resnets.0", x)
        if self.config.mid_block_add_attention:
            at = f"{name}.attentions.0"
            tokens = self.norm(self.vae, f"{at}.group_norm", x).flatten(2).mT
            q, k, v = (F.linear(tokens, *self.vae(f"{at}.to_{part}")) for part in "qkv")
            tokens = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
            x = x + F.linear(tokens, *self.vae(f"{at}.to_out.0")).mT.reshape(x.shape)
        return self.resnet(self.vae, f"{name}.resnets.1", x)

    def up(self, weights, i, x, layers, prefix=""):
        for j in range(layers):
            x = self.resnet(weights, f"{prefix}up_blocks.{i}.resnets.{j}", x)
        if i == 3:
            return x
        return F.conv2d(
            F.interpolate(x, scale_factor=2), *weights(f"{prefix}up_blocks.{i}.upsamplers.0.conv"), padding=1
        )

    def encode(self, image):
        x, features = F.conv2d(image, *self.vae("encoder.conv_in"), padding=1), []
        for i in range(4):
            features.append(x)
            for j in range(self.config.layers_per_block):
                x = self.resnet(self.vae, f"encoder.down_blocks.{i}.resnets.{j}", x)
            if i < 3:
                x = F.conv2d(
                    F.pad(x, (0, 1, 0, 1)), *self.vae(f"encoder.down_blocks.{i}.downsamplers.0.conv"), stride=2
                )
        x = F.silu(self.norm(self.vae, "encoder.conv_norm_out", self.mid("encoder.mid_block", x)))
        x = F.conv2d(x, *self.vae("encoder.conv_out"), padding=1)
        if "quant_conv.weight" in self.base:
            x = F.conv2d(x, *self.vae("quant_conv"))
        return x[:, : self.config.latent_channels] * self.config.scaling_factor, features

    def decode(self, latents, features):
        x = latents / self.config.scaling_factor
        if "post_quant_conv.weight" in self.base:
            x = F.conv2d(x, *self.vae("post_quant_conv"))
        x = self.mid("decoder.mid_block", F.conv2d(x, *self.vae("decoder.conv_in"), padding=1))
        m = x
        for i in range(4):
            if i > 0 and self.skips:
                name = f"decoder.skip_conv_{i + 1}"
                skip = self.lora[f"{name}.base_layer.weight"].flatten(1) + self.update(name)
                x = x + torch.einsum("oi,bihw->bohw", skip, features[3 - i])
            block = f"interaction_blocks.{i}.0"
            x, m = (self.mugi if f"{block}.b_l" in self.decoder else self.cdib)(block, x, m)
            x = self.up(self.vae, i, x, self.config.layers_per_block + 1, "decoder.")
            m = self.up(self.own, i, m, 2)
        x = F.conv2d(F.silu(self.norm(self.vae, "decoder.conv_norm_out", x)), *self.vae("decoder.conv_out"), padding=1)
        m = F.conv2d(F.silu(self.norm(self.own, "out_block.0", m)), *self.own("out_block.2"), padding=1)
        return x, m

    def channel_attention(self, name, x):
        return x * F.conv2d(x.mean((2, 3), keepdim=True), *self.own(f"{name}.ca.1"))

    def cdib(self, block, *streams):
        halves = []
        for x, side in zip(streams, "lr", strict=True):
            y = self.resnet(self.own, f"{block}.block1.0.seq_{side}.0", x)
            halves.append(F.conv2d(y, *self.own(f"{block}.block1.0.seq_{side}.1")).chunk(2, 1))
        out = []
        for x, side, (value, _), (_, gate) in zip(streams, "lr", halves, halves[::-1], strict=True):
            y = self.channel_attention(f"{block}.block1.2.seq_{side}.0", value * gate.sigmoid())
            y = F.silu(self.norm(self.own, f"{block}.block1.3.seq_{side}.0", y, eps=1e-5))
            y = F.conv2d(y, *self.own(f"{block}.block1.5.seq_{side}.0"))
            out.append(x + self.decoder[f"{block}.a_{side}"] * y)
        return out

    def mugi(self, block, image, mask):
        def layer_norm(name, x):
            weight, bias = self.own(name)
            mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
            return (x - mean) / (var + 1e-6).sqrt() * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)

        def halves(name, x, depthwise):
            y = F.conv2d(layer_norm(f"{name}.0", x), *self.own(f"{name}.1"))
            if depthwise:
                y = F.conv2d(y, *self.own(f"{name}.2"), padding=1, groups=y.shape[1])
            return y.chunk(2, 1)

        value = halves(f"{block}.block1.0.seq_r", mask, True)[0]
        gate = halves(f"{block}.block1.0.seq_l", image, True)[1]
        y = self.channel_attention(f"{block}.block1.2.seq_r.0", value * gate)
        mask = mask + self.decoder[f"{block}.a_r"] * F.conv2d(y, *self.own(f"{block}.block1.3.seq_r.0"))
        value = halves(f"{block}.block2.0.seq_r", mask, False)[0]
        gate = halves(f"{block}.block2.0.seq_l", image, False)[1]
        y = F.conv2d(value * gate, *self.own(f"{block}.block2.2.seq_r.0"))
        return image, mask + self.decoder[f"{block}.b_r"] * y
