"""Side-by-side measurements. Machines are noisy: contenders take turns in one run, ratios are of medians."""
