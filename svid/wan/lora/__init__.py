"""LoRAs for Wan's experts: any common key format in, exact deltas merged, exact weights back afterwards.

`keys` knows how files name things, `read` turns a file into deltas on the model's parameters, `apply` merges and
restores. A further format (LoKr, LoHa, DoRA, musubi's underscores) is another `Part` in `keys` and another delta in
`read`; `apply` needs to know only a delta's parameter, shape and fp32 value.
"""
