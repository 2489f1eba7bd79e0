"""Laws are checked on one thread: the models are tiny and the arithmetic is the same every time."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
