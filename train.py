"""Train a model from a config: ``python train.py configs/toybirds/cbm.yaml model.regime=sequential``."""

import sys

from ibd.cli import main

if __name__ == "__main__":
    sys.exit(main(["fit", *sys.argv[1:]]))
