"""TextDiff (Liu et al., 2023): text enhancement module, mask-guided residual diffusion, and the text recogniser."""
