"""The published command line: `torchrun --nproc-per-node 4 train.py --stages 02 --exp_id mine --s2_batch_size 12`."""

import sys

from jointformer.cli.train_published import main

if __name__ == "__main__":
    sys.exit(main())
