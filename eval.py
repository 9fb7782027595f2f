"""The published command line: `python eval.py --model s012 --dataset D17 --max_memory_frames 1 --topk_num 60`."""

import sys

from jointformer.cli.published import main

if __name__ == "__main__":
    sys.exit(main())
