"""`python -m svid`."""

from svid.cli import main

main(prog_name="svid")
