"""A small diffusion model that draws what a prompt names: words, noise, network, samplers. Knows of no engine."""
