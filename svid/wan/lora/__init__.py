"""LoRAs for Wan's experts: any common key format in, exact deltas merged, exact weights back afterwards.

`keys` knows how files name things, `sort` what the keys of one are for, `read` turns a file into deltas on the model's
parameters, `deltas` holds their formulas, `apply` merges and restores, `describe` says what a file is without loading
it. A further format is another spelling in `keys`, and where it computes otherwise, another class in `deltas` that
`read` makes.
"""
